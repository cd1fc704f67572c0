from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("workspaces", "0002_directory_of_torc_steps")]

    operations = [
        migrations.AddField(
            model_name="workspace",
            name="reading_until",
            field=models.DateTimeField(blank=True, null=True, help_text="Somebody reads the source, at the latest until then"),
        ),
        migrations.AddField(
            model_name="workspace",
            name="stops",
            field=models.PositiveIntegerField(default=0, db_default=0, help_text="Reads in a row that a limit ended"),
        ),
        migrations.AddField(
            model_name="workspace",
            name="stopped_because",
            field=models.CharField(max_length=500, blank=True, default="", db_default=""),
        ),
        migrations.AddField(
            model_name="workspace",
            name="not_before",
            field=models.DateTimeField(blank=True, null=True, help_text="When the scheduler may read it again after such an end"),
        ),
        migrations.AddField(
            model_name="workspace",
            name="quarantined_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
    ]
