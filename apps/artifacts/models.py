from __future__ import annotations

import uuid

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class Blob(models.Model):
    """Bytes in the storage. Exists from `stored_at` on, until `leaving_at`; before and after, the
    row says what to clear away."""

    key = models.CharField(max_length=200, unique=True, help_text="Its name in the storage")
    digest = models.CharField(max_length=64, blank=True, help_text="SHA-256")
    size_bytes = models.BigIntegerField(default=0)
    stored_at = models.DateTimeField(null=True, blank=True)
    leaving_at = models.DateTimeField(null=True, blank=True)
    used_at = models.DateTimeField(db_default=Now(), help_text="When it was last put or begun")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["digest", "size_bytes"],
                condition=Q(stored_at__isnull=False, leaving_at__isnull=True),
                name="artifacts_blob_once",
            )
        ]
        indexes = [models.Index(fields=["used_at"], name="artifacts_blob_used")]

    def __str__(self) -> str:
        return self.digest[:12]


class Installation(models.Model):
    """The one row that the storage is compared with: both belong to the same installation."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    is_only = models.BooleanField(default=True, unique=True)
    marked_at = models.DateTimeField(null=True, help_text="When its mark was put into the storage")
