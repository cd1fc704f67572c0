"""Workers that have been seen, and the tag sets that steps ask for."""

from __future__ import annotations

import uuid

from django.contrib.postgres.fields import ArrayField
from django.db import models


class TagSet(models.Model):
    """One distinct set of required tags: one queue, one routing key. `key` is the sorted tags joined by `+`."""

    id = models.SmallAutoField(primary_key=True)
    key = models.CharField(max_length=500, unique=True)
    tags = ArrayField(models.CharField(max_length=100))

    def __str__(self) -> str:
        return self.key


class Worker(models.Model):
    """One start of a worker process. A restart is a new row: leases of the old one are never adopted."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=200)
    tags = ArrayField(models.CharField(max_length=100))
    slots = models.PositiveIntegerField()
    busy = models.PositiveIntegerField(default=0)
    version = models.CharField(max_length=50)
    hostname = models.CharField(max_length=255)
    pid = models.IntegerField()
    offers = models.JSONField(default=dict, help_text="num_cpus, memory_bytes, num_gpus where steps are packed")
    job_id = models.UUIDField(null=True, help_text="Set when the worker serves this one job only")
    started_at = models.DateTimeField()
    heartbeat_at = models.DateTimeField()
    drains_at = models.DateTimeField(null=True)
    stopped_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(fields=["heartbeat_at"], condition=models.Q(stopped_at=None), name="fleet_worker_live")]

    def __str__(self) -> str:
        return self.name
