"""What the ORM cannot say: the partitioned log table, storage settings of the hot tables, defaults for raw inserts."""

from django.db import migrations

LOGS = """
CREATE SEQUENCE jobs_logchunk_id_seq;
CREATE TABLE jobs_logchunk (
    day date NOT NULL,
    attempt_id bigint NOT NULL,
    seq bigint NOT NULL,
    id bigint NOT NULL DEFAULT nextval('jobs_logchunk_id_seq'),
    job_id uuid NOT NULL,
    step_id bigint,
    lines text NOT NULL,
    line_count integer NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (day, attempt_id, seq)
) PARTITION BY RANGE (day);
CREATE INDEX jobs_logchunk_job ON jobs_logchunk (job_id, id);
CREATE TABLE jobs_logchunk_rest PARTITION OF jobs_logchunk DEFAULT;
"""
STORAGE = """
ALTER TABLE jobs_step SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE jobs_attempt SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE jobs_job SET (fillfactor = 70);
"""


class Migration(migrations.Migration):
    dependencies = [("jobs", "0001_initial")]

    operations = [
        migrations.RunSQL(LOGS, "DROP TABLE jobs_logchunk; DROP SEQUENCE jobs_logchunk_id_seq"),
        migrations.RunSQL(STORAGE, migrations.RunSQL.noop),
    ]
