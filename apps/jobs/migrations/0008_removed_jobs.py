from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("jobs", "0007_scheduled_at")]

    operations = [
        migrations.CreateModel(
            name="RemovedJobs",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("source_type", models.CharField(max_length=20)),
                ("status", models.CharField(max_length=12)),
                ("count", models.BigIntegerField()),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("source_type", "status"), name="jobs_removed_once"
                    )
                ],
            },
        ),
    ]
