"""Daily partitions of the log table: created ahead, dropped by retention."""

from __future__ import annotations

from django.conf import settings
from django.db import connection, transaction

AHEAD_DAYS = 2
LOCK = 0x5354524F454D01


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
    """Drop log partitions older than `retention.job_days` that hold no line of an existing job."""
    days = settings.STROEM.retention.job_days
    if days is None:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent ="
            " 'jobs_logchunk'::regclass AND inhrelid::regclass::text ~ '^jobs_logchunk_[0-9]{8}$'"
            " AND to_date(right(inhrelid::regclass::text, 8), 'YYYYMMDD') < (clock_timestamp() AT"
            " TIME ZONE 'UTC')::date - %s::int",
            [int(days)],
        )
        for (table,) in cursor.fetchall():
            cursor.execute(
                f"SELECT EXISTS (SELECT 1 FROM {table} l JOIN jobs_job j ON j.id = l.job_id)"  # noqa: S608  (from pg_inherits)
            )
            if not cursor.fetchone()[0]:
                cursor.execute(f"DROP TABLE IF EXISTS {table}")
