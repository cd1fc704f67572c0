"""Fired hooks: one row per (job, generation, event, index), so that each fires exactly once."""

from __future__ import annotations

from django.db import models


class HookRun(models.Model):
    """A fired hook, with the job it started or the reason why it could not."""

    job_id = models.UUIDField()
    generation = models.SmallIntegerField()
    event = models.CharField(max_length=20)
    index = models.SmallIntegerField()
    step_id = models.BigIntegerField(
        default=0, help_text="The suspended step; 0 for the end of a job"
    )
    fence = models.IntegerField(default=0, help_text="Which suspension of the step")
    hook_job_id = models.UUIDField(null=True)
    error = models.TextField(blank=True)
    fired_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["job_id", "generation", "event", "index", "step_id", "fence"],
                name="hooks_run_once",
            )
        ]
