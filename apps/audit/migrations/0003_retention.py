from django.db import migrations, models

# Only this function, which `retention.audit_days` calls, gets past the trigger; PostgreSQL takes
# its setting back when the function ends. Days that are not over stay, whatever it is asked.
ALLOW = """
CREATE OR REPLACE FUNCTION audit_entry_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('stroem.audit_entry_expires', true) = 'yes' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'restrict_violation';
END $$;
CREATE FUNCTION audit_entry_expire(until timestamptz, most integer) RETURNS bigint
LANGUAGE plpgsql SET stroem.audit_entry_expires = 'yes' AS $$
DECLARE
    gone bigint;
BEGIN
    DELETE FROM audit_entry WHERE id IN (
        SELECT id FROM audit_entry
        WHERE at < least(until, clock_timestamp() - interval '1 day')
        ORDER BY at, id LIMIT most
    );
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END $$;
"""
FORBID = """
DROP FUNCTION audit_entry_expire(timestamptz, integer);
CREATE OR REPLACE FUNCTION audit_entry_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'restrict_violation';
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("audit", "0002_append_only")]

    operations = [
        migrations.CreateModel(
            name="Removal",
            fields=[
                ("id", models.SmallIntegerField(primary_key=True, serialize=False)),
                ("until", models.DateTimeField()),
                ("count", models.BigIntegerField(default=0)),
            ],
        ),
        migrations.RunSQL(ALLOW, FORBID),
    ]
