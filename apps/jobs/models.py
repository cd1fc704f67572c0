"""Jobs, steps, attempts, events and log chunks. The rows are the queue and the truth; a message is
only a bell.

Hot tables refer to each other by plain id columns (no foreign key constraint): a log line or an
event must never wait for a job's lock, and retention removes whole jobs in bulk.
"""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from engine.lifecycle import (
    FINAL_JOB,
    OPEN_JOB,
    AttemptStatus,
    JobStatus,
    OwnerKind,
    StepStatus,
    choices,
)


class Blueprint(models.Model):
    """A task and everything it uses, frozen as JSON; shared by all jobs of one revision and
    task."""

    digest = models.CharField(max_length=64, unique=True)
    body = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)


class Job(models.Model):
    """One run of a task."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(
        "workspaces.Workspace", on_delete=models.PROTECT, related_name="jobs"
    )
    revision = models.ForeignKey("workspaces.Revision", on_delete=models.PROTECT, related_name="+")
    blueprint = models.ForeignKey(Blueprint, on_delete=models.PROTECT, related_name="+")
    task_name = models.CharField(max_length=300)
    status = models.CharField(max_length=12, choices=choices(JobStatus), default=JobStatus.PENDING)
    source_type = models.CharField(max_length=20, default="api", db_default="api")
    source_id = models.CharField(max_length=500, blank=True, default="", db_default="")
    started_by = models.ForeignKey(
        "accounts.User", null=True, on_delete=models.SET_NULL, related_name="+"
    )
    input = models.JSONField(default=dict, help_text="As shown: secret values are masked")
    input_sealed = models.BinaryField(
        null=True, help_text="The input with its secret values, encrypted"
    )
    output = models.JSONField(null=True)
    output_sealed = models.BinaryField(
        null=True, help_text="The output with its secret values, encrypted"
    )
    error = models.TextField(blank=True, default="", db_default="")
    priority = models.SmallIntegerField(default=0, db_default=0)
    generation = models.SmallIntegerField(
        default=1, db_default=1, help_text="Grows with each restart of failed steps"
    )
    open_steps = models.IntegerField(
        default=0, db_default=0, help_text="Steps of the flow that are not final"
    )
    bad_steps = models.IntegerField(
        default=0, db_default=0, help_text="Failed or cancelled steps that the job may not tolerate"
    )
    is_held = models.BooleanField(
        default=False, db_default=False, help_text="Waits for the task's concurrency limit"
    )
    cancel_requested_at = models.DateTimeField(null=True)
    cancel_reason = models.TextField(blank=True, default="", db_default="")
    is_timed_out = models.BooleanField(
        default=False, db_default=False, help_text="Its time-out stops it, not a person"
    )
    has_actions = models.BooleanField(
        default=False, db_default=False, help_text="Has workflow actions to arm"
    )
    parent_job_id = models.UUIDField(null=True)
    parent_step_id = models.BigIntegerField(null=True)
    parent_step_name = models.CharField(max_length=300, blank=True, default="", db_default="")
    parent_told = models.BooleanField(
        default=True,
        db_default=True,
        help_text="False while a finished child has not advanced its parent",
    )
    depth = models.SmallIntegerField(default=0, db_default=0)
    rerun_of_id = models.UUIDField(null=True)
    retry_of_id = models.UUIDField(null=True)
    retry_job_id = models.UUIDField(null=True)
    retry_attempt = models.SmallIntegerField(default=0, db_default=0)
    scheduled_at = models.DateTimeField(null=True, help_text="The slot of its clock")
    due_at = models.DateTimeField(null=True, help_text="A delayed job starts then")
    deadline_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    completed_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="jobs_job_status", condition=Q(status__in=[s.value for s in JobStatus])
            ),
            models.CheckConstraint(
                name="jobs_job_counters", condition=Q(open_steps__gte=0, bad_steps__gte=0)
            ),
            models.CheckConstraint(
                name="jobs_job_final_has_end",
                condition=~Q(status__in=sorted(s.value for s in FINAL_JOB))
                | Q(completed_at__isnull=False),
            ),
        ]
        indexes = [
            models.Index(  # with what rights and filters ask of each row of a far page
                fields=["-created_at", "-id"],
                include=["workspace", "task_name"],
                name="jobs_job_newest",
            ),
            models.Index(fields=["workspace", "task_name", "-created_at"], name="jobs_job_task"),
            models.Index(fields=["status", "-created_at"], name="jobs_job_status_newest"),
            models.Index(
                fields=["-completed_at"],
                name="jobs_job_completed",
                condition=Q(completed_at__isnull=False),
            ),
            models.Index(
                fields=["parent_job_id"],
                name="jobs_job_parent",
                condition=Q(parent_job_id__isnull=False),
            ),
            models.Index(fields=["source_type", "source_id"], name="jobs_job_source"),
            models.Index(
                fields=["id"],
                name="jobs_job_open",
                condition=Q(status__in=[status.value for status in OPEN_JOB]),
            ),
            models.Index(
                fields=["id"], name="jobs_job_parent_untold", condition=Q(parent_told=False)
            ),
            models.Index(
                fields=["deadline_at"],
                name="jobs_job_deadline",
                condition=Q(
                    deadline_at__isnull=False, status__in=[status.value for status in OPEN_JOB]
                ),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.task_name} {str(self.id)[:8]}"


class RemovedJobs(models.Model):
    """How many jobs of a kind retention has removed, so that counts of all jobs never shrink."""

    source_type = models.CharField(max_length=20)
    status = models.CharField(max_length=12)
    count = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["source_type", "status"], name="jobs_removed_once")
        ]

    def __str__(self) -> str:
        return f"{self.source_type} {self.status}: {self.count}"


class FlowManager(models.Manager["Step"]):
    """The steps of flows, without the units of other rooms."""

    def get_queryset(self) -> models.QuerySet[Step]:
        return super().get_queryset().filter(owner_kind=OwnerKind.STEP)


class Step(models.Model):
    """What a worker can claim: one node of a job's flow, or one instance of a loop (`name` is then
    `base[index]`). Rows with another owner are units outside the flow, see `Unit`."""

    id = models.BigAutoField(primary_key=True)
    job = models.ForeignKey(
        Job, on_delete=models.CASCADE, related_name="steps", db_constraint=False, db_index=False
    )
    name = models.CharField(max_length=300)
    base = models.CharField(max_length=300, help_text="Name of the node in the flow")
    position = models.IntegerField(help_text="Topological order within the flow, then loop index")
    kind = models.CharField(max_length=10, help_text="Type of the step's action")
    runner = models.CharField(max_length=10, default="none", db_default="none")
    status = models.CharField(
        max_length=12, choices=choices(StepStatus), default=StepStatus.PENDING, db_default="pending"
    )
    tag_set = models.ForeignKey(
        "fleet.TagSet",
        null=True,
        on_delete=models.PROTECT,
        related_name="+",
        db_constraint=False,
        db_index=False,
    )
    dependents = ArrayField(models.BigIntegerField(), default=list)
    deps_left = models.IntegerField(default=0, db_default=0)
    deps_completed = models.IntegerField(
        default=0, db_default=0, help_text="Completed, or failed and tolerated"
    )
    deps_failed = models.IntegerField(
        default=0, db_default=0, help_text="Failed without tolerance, or cancelled"
    )
    deps_skipped = models.IntegerField(default=0, db_default=0)
    tolerates = models.BooleanField(
        default=False, db_default=False, help_text="continue_on_failure"
    )
    priority = models.SmallIntegerField(default=0, db_default=0)
    fair_rank = models.IntegerField(
        default=0, db_default=0, help_text="Place within its job among what became ready with it"
    )
    fence = models.IntegerField(
        default=0,
        db_default=0,
        help_text="Grows with each claim; a report with an older one is refused",
    )
    attempts = models.SmallIntegerField(
        default=0, db_default=0, help_text="Runs that count against `retry`"
    )
    timeout_s = models.FloatField(null=True, help_text="Of one attempt")
    losses = models.SmallIntegerField(
        default=0, db_default=0, help_text="Attempts lost with their worker, not counted as runs"
    )
    retry_at = models.DateTimeField(null=True)
    loop_id = models.BigIntegerField(
        null=True, help_text="The loop step that this is an instance of"
    )
    loop_index = models.IntegerField(null=True)
    loop_total = models.IntegerField(null=True)
    loop_item = models.JSONField(null=True, help_text="As shown: secret values are masked")
    loop_item_sealed = models.BinaryField(
        null=True, help_text="The item with its secret values, encrypted"
    )
    loop_open = models.IntegerField(
        default=0, db_default=0, help_text="On a loop step: instances that are not final"
    )
    loop_next = models.IntegerField(
        default=0, db_default=0, help_text="On a loop step: instances released so far"
    )
    loop_failed = models.IntegerField(
        default=0, db_default=0, help_text="On a loop step: instances that failed or were cancelled"
    )
    input = models.JSONField(
        null=True, help_text="Rendered input as shown: secret values are masked"
    )
    output = models.JSONField(null=True)
    has_output = models.BooleanField(default=False, db_default=False)
    output_sealed = models.BinaryField(
        null=True, help_text="The output with its secret values, encrypted"
    )
    error = models.TextField(blank=True, default="", db_default="")
    worker_id = models.UUIDField(null=True)
    child_job_id = models.UUIDField(null=True)
    ready_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    suspended_at = models.DateTimeField(null=True)
    deadline_at = models.DateTimeField(
        null=True, help_text="Of a suspended step or a child job; attempts carry theirs"
    )
    completed_at = models.DateTimeField(null=True)
    owner_kind = models.CharField(
        max_length=10,
        choices=choices(OwnerKind),
        default=OwnerKind.STEP,
        db_default="step",
        help_text="Who it works for: the flow of its job, or what `owner_id` names",
    )
    owner_id = models.BigIntegerField(null=True)
    bound_to = models.UUIDField(null=True, help_text="The only worker that may take it")
    lasts = models.BooleanField(
        default=False, db_default=False, help_text="A cancelled job does not stop it"
    )

    objects: ClassVar[FlowManager] = FlowManager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="jobs_step_owner",
                condition=Q(owner_kind=OwnerKind.STEP, owner_id__isnull=True)
                | Q(owner_kind=OwnerKind.ACTION, owner_id__isnull=False),
            ),
            models.CheckConstraint(
                name="jobs_step_status", condition=Q(status__in=[s.value for s in StepStatus])
            ),
            models.CheckConstraint(
                name="jobs_step_deps", condition=Q(deps_left__gte=0, loop_open__gte=0)
            ),
            models.UniqueConstraint(fields=["job", "name"], name="jobs_step_once"),
        ]
        indexes = [
            models.Index(
                "tag_set",
                models.F("priority").desc(),
                "fair_rank",
                "ready_at",
                "id",
                name="jobs_step_claim",
                condition=Q(status=StepStatus.READY),
            ),
            models.Index(
                fields=["retry_at"], name="jobs_step_due", condition=Q(retry_at__isnull=False)
            ),
            models.Index(
                fields=["loop_id", "loop_index"],
                name="jobs_step_loop",
                condition=Q(loop_id__isnull=False),
            ),
            models.Index(
                fields=["loop_id", "loop_index"],
                name="jobs_step_loop_next",
                condition=Q(loop_id__isnull=False, status=StepStatus.PENDING),
            ),
            models.Index(
                fields=["job"], name="jobs_step_suspended", condition=Q(status=StepStatus.SUSPENDED)
            ),
            models.Index(
                fields=["deadline_at"],
                name="jobs_step_deadline",
                condition=Q(deadline_at__isnull=False),
            ),
            models.Index(
                fields=["owner_id"], name="jobs_unit_owner", condition=Q(owner_id__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return self.name


class UnitManager(models.Manager["Unit"]):
    def get_queryset(self) -> models.QuerySet[Unit]:
        return super().get_queryset().exclude(owner_kind=OwnerKind.STEP)


class Unit(Step):
    """What a worker can claim outside the flow of its job. It has no dependents and counts towards
    nothing; its owner handles its end (`apps.jobs.ports.Owner`)."""

    objects: ClassVar[UnitManager] = UnitManager()  # type: ignore[assignment]

    class Meta:
        proxy = True


class Attempt(models.Model):
    """One claim of a step or a unit by a worker, with its lease; identified by `(step, fence)`."""

    id = models.BigAutoField(primary_key=True)
    step_id = models.BigIntegerField()
    job_id = models.UUIDField()
    fence = models.IntegerField()
    worker_id = models.UUIDField()
    status = models.CharField(
        max_length=10,
        choices=choices(AttemptStatus),
        default=AttemptStatus.RUNNING,
        db_default="running",
    )
    lease_until = models.DateTimeField()
    deadline_at = models.DateTimeField(null=True)
    claimed_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, help_text="Its process may exist since then")
    ended_at = models.DateTimeField(null=True)
    exit_code = models.IntegerField(null=True)
    error = models.TextField(blank=True, default="", db_default="")
    log_bytes = models.BigIntegerField(default=0, db_default=0)
    progress = models.SmallIntegerField(
        null=True, help_text="Of a workflow action: how many of its commands were begun"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["step_id", "fence"], name="jobs_attempt_once")
        ]
        indexes = [
            models.Index(
                fields=["worker_id"], name="jobs_attempt_live", condition=Q(ended_at__isnull=True)
            )
        ]


class StepEvent(models.Model):
    """One move of a step or a job (`step_id` null), in words. Append-only."""

    id = models.BigAutoField(primary_key=True)
    job_id = models.UUIDField()
    step_id = models.BigIntegerField(null=True)
    fence = models.IntegerField(default=0, db_default=0)
    kind = models.CharField(max_length=20)
    detail = models.TextField(blank=True, default="", db_default="")
    actor = models.CharField(max_length=254, blank=True, default="", db_default="")
    at = models.DateTimeField(db_default=models.Func(function="clock_timestamp"))

    class Meta:
        indexes = [models.Index(fields=["job_id", "id"], name="jobs_event_job")]


class LogChunk(models.Model):
    """A batch of log lines of one attempt; (attempt, seq) makes a repeated batch harmless.
    Partitioned by `day`.

    `lines` is JSON lines: {"ts", "stream", "step", "line"}. Server messages have attempt 0, no step
    and a seq of their own.
    """

    pk = models.CompositePrimaryKey("day", "attempt_id", "seq")
    day = models.DateField()
    attempt_id = models.BigIntegerField()
    seq = models.BigIntegerField()
    id = models.BigIntegerField(help_text="From a sequence: the order of arrival")
    job_id = models.UUIDField()
    step_id = models.BigIntegerField(null=True)
    lines = models.TextField()
    line_count = models.IntegerField()
    at = models.DateTimeField()

    class Meta:
        managed = False
        db_table = "jobs_logchunk"
