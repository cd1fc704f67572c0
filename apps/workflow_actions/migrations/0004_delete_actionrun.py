"""Runs of actions are units now."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("workflow_actions", "0003_runs_are_units")]

    operations = [migrations.DeleteModel(name="ActionRun")]
