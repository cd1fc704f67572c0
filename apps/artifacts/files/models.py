from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class Artifact(models.Model):
    """A file that an attempt of a step has left. It counts once the attempt has ended, see
    `files.shelf`. Without foreign keys into jobs, whose rows are locked while steps end."""

    job_id = models.UUIDField()
    workspace_id = models.BigIntegerField()
    step_id = models.BigIntegerField()
    step_name = models.CharField(max_length=300)
    base = models.CharField(max_length=300, help_text="Name of the node in the flow")
    attempt_id = models.BigIntegerField()
    name = models.CharField(max_length=255)
    content_type = models.CharField(max_length=100)
    size_bytes = models.BigIntegerField()
    blob = models.ForeignKey("artifacts.Blob", on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["attempt_id", "name"], name="artifacts_artifact_once")
        ]
        indexes = [
            models.Index(fields=["job_id", "id"], name="artifacts_artifact_job"),
            models.Index(
                fields=["workspace_id"], include=["size_bytes"], name="artifacts_artifact_workspace"
            ),
            models.Index(
                fields=["expires_at"],
                name="artifacts_artifact_expiry",
                condition=models.Q(expires_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return self.name
