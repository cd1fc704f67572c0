"""Daily partitions of the log table: created ahead, dropped by retention."""

from __future__ import annotations

from contextlib import suppress

from django.conf import settings
from django.db import OperationalError, connection, transaction

AHEAD_DAYS = 2
LOCK = 0x5354524F454D01
PAST = """
SELECT name, today - day FROM (
    SELECT inhrelid::regclass::text AS name, (clock_timestamp() AT TIME ZONE 'UTC')::date AS today,
        to_date(right(inhrelid::regclass::text, 8), 'YYYYMMDD') AS day
    FROM pg_inherits WHERE inhparent = 'jobs_logchunk'::regclass
        AND inhrelid::regclass::text ~ '^jobs_logchunk_[0-9]{8}$'
) t WHERE today - day > %s ORDER BY day
"""
EXISTS = "SELECT EXISTS (SELECT 1 FROM {})"
OF_JOBS = "SELECT EXISTS (SELECT 1 FROM {} l JOIN jobs_job j ON j.id = l.job_id)"


def prepare() -> None:
    """Create the partitions of today and the next days. Other days use the default partition."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        cursor.execute(
            "SELECT to_char(d, 'YYYYMMDD'), d::date::text, (d::date + 1)::text FROM"
            " generate_series((clock_timestamp() AT TIME ZONE 'UTC')::date, (clock_timestamp() AT"
            " TIME ZONE 'UTC')::date + %s, interval '1 day') d",
            [AHEAD_DAYS],
        )
        for name, start, end in cursor.fetchall():
            cursor.execute(
                "SELECT to_regclass(%s), EXISTS (SELECT 1 FROM jobs_logchunk_rest WHERE day = %s)",
                [f"jobs_logchunk_{name}", start],
            )
            exists, has_strays = cursor.fetchone()
            if exists is None and not has_strays:
                cursor.execute(
                    f"CREATE TABLE jobs_logchunk_{name} PARTITION OF jobs_logchunk"
                    f" FOR VALUES FROM ('{start}') TO ('{end}')"
                )


def expire() -> None:
    """Drop past partitions whose lines have all moved into the storage or gone with their jobs, and
    those older than `retention.job_days` that hold no line of an existing job."""
    days = settings.STROEM.retention.job_days
    with connection.cursor() as cursor:
        cursor.execute(PAST, [AHEAD_DAYS])
        for table, age in cursor.fetchall():
            wanted = EXISTS if days is None or age <= int(days) else OF_JOBS
            cursor.execute(wanted.format(table))
            if not cursor.fetchone()[0]:
                _drop(table, wanted)


def _drop(table: str, wanted: str) -> None:
    """An attempt that has run for days appends to the partition of its first day: nobody does
    while it is looked at again. If somebody is just doing so, the next round tries again."""
    with suppress(OperationalError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '1s'")
        cursor.execute("LOCK TABLE jobs_logchunk IN SHARE ROW EXCLUSIVE MODE")
        cursor.execute(wanted.format(table))
        if not cursor.fetchone()[0]:
            cursor.execute(f"DROP TABLE IF EXISTS {table}")
