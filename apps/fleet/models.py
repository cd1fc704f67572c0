"""Workers, tag sets, worker sessions and Slurm allocations."""

from __future__ import annotations

import uuid

from django.contrib.postgres.fields import ArrayField
from django.core.validators import RegexValidator
from django.db import models

from engine.lifecycle import OPEN_ALLOCATION, AllocationStatus, SessionStatus, choices


class TagSet(models.Model):
    """One distinct set of required tags: one queue, one routing key. `key` is the sorted tags
    joined by `+`."""

    id = models.SmallAutoField(primary_key=True)
    key = models.CharField(max_length=500, unique=True)
    tags = ArrayField(models.CharField(max_length=100))

    def __str__(self) -> str:
        return self.key


class Worker(models.Model):
    """One start of a worker process. A restart is a new row, which never adopts old leases."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=200)
    tags = ArrayField(models.CharField(max_length=100))
    slots = models.PositiveIntegerField()
    busy = models.PositiveIntegerField(default=0)
    version = models.CharField(max_length=50)
    hostname = models.CharField(max_length=255)
    pid = models.IntegerField()
    offers = models.JSONField(
        default=dict, help_text="num_cpus, memory_bytes, num_gpus where steps are packed"
    )
    job_id = models.UUIDField(null=True, help_text="Set when the worker serves this one job only")
    workspaces = ArrayField(
        models.CharField(max_length=100),
        null=True,
        help_text="Names or patterns of the workspaces it serves; empty: all",
    )
    started_at = models.DateTimeField()
    heartbeat_at = models.DateTimeField()
    drains_at = models.DateTimeField(null=True)
    stopped_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(
                fields=["heartbeat_at"],
                condition=models.Q(stopped_at=None),
                name="fleet_worker_live",
            )
        ]

    def __str__(self) -> str:
        return self.name


class WorkerLimit(models.Model):
    """What operators allow in the admin: workers of these names serve these workspaces at most,
    whatever their own configuration says."""

    workers = models.CharField(
        max_length=200,
        unique=True,
        validators=[RegexValidator(r"^[A-Za-z0-9._*-]+\Z", "Use letters, digits, . _ - and *.")],
        help_text="The name of a worker; * stands for any characters",
    )
    workspaces = ArrayField(
        models.CharField(
            max_length=100,
            validators=[RegexValidator(r"^[A-Za-z0-9_*-]+\Z", "Use letters, digits, _ - and *.")],
        ),
        help_text="Names or patterns of workspaces, with commas",
    )

    class Meta:
        verbose_name = "worker limit"

    def __str__(self) -> str:
        return self.workers


class Scheduler(models.Model):
    """One start of a scheduler process. Any number may run; none leads."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    hostname = models.CharField(max_length=255)
    pid = models.IntegerField()
    started_at = models.DateTimeField()
    heartbeat_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.hostname}:{self.pid}"


class WorkerSession(models.Model):
    """One worker's work on one generation of a job, from before its first step until it leaves."""

    id = models.BigAutoField(primary_key=True)
    job_id = models.UUIDField()
    generation = models.SmallIntegerField(default=1, db_default=1)
    worker_id = models.UUIDField()
    allocation_id = models.UUIDField(null=True)
    status = models.CharField(
        max_length=10, choices=choices(SessionStatus), default=SessionStatus.OPEN, db_default="open"
    )
    reason = models.CharField(
        max_length=200, blank=True, default="", db_default="", help_text="Why it left"
    )
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="fleet_session_status",
                condition=models.Q(status__in=[status.value for status in SessionStatus]),
            ),
            models.UniqueConstraint(
                fields=["job_id", "generation", "worker_id"], name="fleet_session_once"
            ),
        ]
        indexes = [
            models.Index(
                fields=["worker_id"],
                name="fleet_session_live",
                condition=models.Q(status__in=[SessionStatus.OPEN, SessionStatus.CLOSING]),
            )
        ]

    def __str__(self) -> str:
        return f"session {self.pk}"


class Allocation(models.Model):
    """Nodes requested from Slurm for one job: one sbatch call, with the script it was given."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    job_id = models.UUIDField()
    action_id = models.BigIntegerField(help_text="The workflow action that asked for it")
    part = models.SmallIntegerField(
        default=0, db_default=0, help_text="Which item of the action's `do`"
    )
    number = models.IntegerField(help_text="From 0, of those that the action asks for")
    scheduler = models.CharField(max_length=100)
    status = models.CharField(
        max_length=10,
        choices=choices(AllocationStatus),
        default=AllocationStatus.REQUESTED,
        db_default="requested",
    )
    slurm_job_id = models.CharField(max_length=40, blank=True, default="", db_default="")
    script = models.TextField()
    state = models.CharField(
        max_length=40, blank=True, default="", db_default="", help_text="In Slurm's own word"
    )
    cluster = models.CharField(
        max_length=100,
        blank=True,
        default="",
        db_default="",
        help_text="Empty if Slurm's programs ask it anyway",
    )
    reason = models.CharField(
        max_length=300,
        blank=True,
        default="",
        db_default="",
        help_text="Why it waits in Slurm's queue",
    )
    nodes = models.CharField(max_length=500, blank=True, default="", db_default="")
    error = models.TextField(blank=True, default="", db_default="")
    tries = models.SmallIntegerField(
        default=0, db_default=0, help_text="How often sbatch was called for it"
    )
    cancel_requested_at = models.DateTimeField(null=True)
    requested_at = models.DateTimeField()
    submitted_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    seen_at = models.DateTimeField(null=True, help_text="When Slurm was asked last")
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="fleet_allocation_status",
                condition=models.Q(status__in=[status.value for status in AllocationStatus]),
            ),
            models.UniqueConstraint(
                fields=["action_id", "part", "number"], name="fleet_allocation_once"
            ),
        ]
        indexes = [
            models.Index(fields=["job_id"], name="fleet_allocation_job"),
            models.Index(
                fields=["id"],
                name="fleet_allocation_open",
                condition=models.Q(status__in=[status.value for status in OPEN_ALLOCATION]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.scheduler} {self.slurm_job_id or str(self.id)[:8]}"
