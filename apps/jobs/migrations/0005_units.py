"""Whatever a worker claims is a row in the table of steps: units outside the flow have an owner."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("jobs", "0004_fewer_indexes")]

    operations = [
        migrations.CreateModel(
            name="Unit",
            fields=[],
            options={"proxy": True, "indexes": [], "constraints": []},
            bases=("jobs.step",),
        ),
        migrations.AddField(
            "attempt",
            "progress",
            models.SmallIntegerField(
                help_text="Of a workflow action: how many of its commands were begun", null=True
            ),
        ),
        migrations.AddField(
            "step",
            "bound_to",
            models.UUIDField(help_text="The only worker that may take it", null=True),
        ),
        migrations.AddField(
            "step",
            "lasts",
            models.BooleanField(
                db_default=False, default=False, help_text="A cancelled job does not stop it"
            ),
        ),
        migrations.AddField("step", "owner_id", models.BigIntegerField(null=True)),
        migrations.AddField(
            "step",
            "owner_kind",
            models.CharField(
                choices=[("step", "step"), ("action", "action")],
                db_default="step",
                default="step",
                help_text="Who it works for: the flow of its job, or what `owner_id` names",
                max_length=10,
            ),
        ),
        migrations.AddIndex(
            "step",
            models.Index(
                condition=models.Q(("owner_id__isnull", False)),
                fields=["owner_id"],
                name="jobs_unit_owner",
            ),
        ),
        migrations.AddConstraint(
            "step",
            models.CheckConstraint(
                condition=models.Q(
                    models.Q(("owner_id__isnull", True), ("owner_kind", "step")),
                    models.Q(("owner_id__isnull", False), ("owner_kind", "action")),
                    _connector="OR",
                ),
                name="jobs_step_owner",
            ),
        ),
    ]
