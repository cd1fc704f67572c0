from django.db import migrations, models

# Whoever changes the groups of a person, and how: pages, the API, identity providers, a shell.
COUNT = """
CREATE FUNCTION accounts_count_epoch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE accounts_user SET epoch = epoch + 1 WHERE id = COALESCE(NEW.user_id, OLD.user_id);
    RETURN NULL;
END $$;
CREATE TRIGGER accounts_count_epoch AFTER INSERT OR DELETE ON accounts_user_groups
    FOR EACH ROW EXECUTE FUNCTION accounts_count_epoch();
"""
FORGET = """
DROP TRIGGER accounts_count_epoch ON accounts_user_groups;
DROP FUNCTION accounts_count_epoch();
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0006_key_scopes_and_service_accounts")]

    operations = [
        migrations.AddField(
            "user",
            "epoch",
            models.PositiveIntegerField(
                default=0,
                editable=False,
                help_text="Counts changes of groups; the database keeps it",
            ),
        ),
        migrations.AlterField(
            "refreshtoken",
            "credential",
            models.CharField(
                max_length=32, help_text="Mark of the password and groups that the chain began with"
            ),
        ),
        migrations.AlterField(
            "connectedagent",
            "credential",
            models.CharField(
                max_length=32,
                help_text="Mark of the password and groups under which it was let in",
            ),
        ),
        migrations.RunSQL(COUNT, FORGET),
    ]
