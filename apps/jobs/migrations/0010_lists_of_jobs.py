import engine.lifecycle
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("fleet", "0006_schedulers"),
        ("jobs", "0009_ends_by_time"),
        ("workspaces", "0007_task_lists"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RemoveIndex(model_name="job", name="jobs_job_newest"),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(
                fields=["-created_at", "-id"],
                include=("workspace", "task_name"),
                name="jobs_job_newest",
            ),
        ),
        migrations.AddIndex(
            model_name="step",
            index=models.Index(
                condition=models.Q(("status", engine.lifecycle.StepStatus["SUSPENDED"])),
                fields=["job"],
                name="jobs_step_suspended",
            ),
        ),
    ]
