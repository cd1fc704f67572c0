"""The units of actions that are shares of worker sessions."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("workflow_actions", "0001_initial"), ("jobs", "0005_units")]

    operations = [
        migrations.CreateModel(
            name="Share",
            fields=[
                ("unit_id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("session_id", models.BigIntegerField()),
                (
                    "action",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="shares",
                        to="workflow_actions.jobaction",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("action", "session_id"), name="workflow_actions_share_once"
                    )
                ],
            },
        ),
    ]
