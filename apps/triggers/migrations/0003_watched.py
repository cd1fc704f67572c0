from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("triggers", "0002_event_sources")]
    operations = [
        migrations.AddField(
            model_name="trigger",
            name="watched",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="WORKSPACE/TASK whose ends of jobs make it fire, if it is another"
                " workspace's",
                max_length=401,
            ),
        ),
        migrations.AddIndex(
            model_name="trigger",
            index=models.Index(
                condition=models.Q(("watched", ""), _negated=True),
                fields=["watched"],
                name="triggers_watched",
            ),
        ),
    ]
