from django.db import migrations

FORBID = """
CREATE FUNCTION approvals_record_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the record of approvals is append-only' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER approvals_record_is_append_only BEFORE UPDATE OR DELETE ON approvals_record
    FOR EACH ROW EXECUTE FUNCTION approvals_record_is_append_only();
"""
ALLOW = """
DROP TRIGGER approvals_record_is_append_only ON approvals_record;
DROP FUNCTION approvals_record_is_append_only();
"""


class Migration(migrations.Migration):
    dependencies = [("approvals", "0001_initial")]

    operations = [migrations.RunSQL(FORBID, ALLOW)]
