"""Workflow actions of jobs: what each waits for, what it holds back, and every run of it.

Like the rows of steps they refer to each other and to jobs by plain id columns: nothing here may
wait for a job's lock.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Q

ENDED = ("succeeded", "failed", "skipped", "cancelled", "superseded")
OPEN_RUN = ("ready", "running")


class JobAction(models.Model):
    """One workflow action of a job, in one generation of the job."""

    class Status(models.TextChoices):
        WAITING = "waiting", "waiting"  # for what it watches
        HELD = "held", "held"  # it was set off, and waits for actions that it needs
        ARMED = "armed", "armed"  # may be done
        RUNNING = "running", "running"
        SUCCEEDED = "succeeded", "succeeded"
        FAILED = "failed", "failed"
        SKIPPED = "skipped", "skipped"
        CANCELLED = "cancelled", "cancelled"
        SUPERSEDED = "superseded", "superseded"  # a restart came before it was done

    id = models.BigAutoField(primary_key=True)
    job_id = models.UUIDField()
    generation = models.SmallIntegerField()
    index = models.SmallIntegerField(help_text="Place in the task's list")
    name = models.CharField(max_length=300, blank=True)
    trigger_type = models.CharField(max_length=30)
    status = models.CharField(
        max_length=12, choices=Status, default=Status.WAITING, db_default="waiting"
    )
    is_by_session = models.BooleanField(
        default=False, db_default=False, help_text="Each worker session does it"
    )
    is_barrier = models.BooleanField(default=False, db_default=False)
    may_grow = models.BooleanField(
        default=False, db_default=False, help_text="A loop may still add steps"
    )
    is_settled = models.BooleanField(
        default=True,
        db_default=True,
        help_text="False when it has ended and what follows from that was not done yet",
    )
    outcome = models.CharField(
        max_length=20, blank=True, default="", db_default="", help_text="Of what it watched"
    )
    reason = models.TextField(
        blank=True, default="", db_default="", help_text="Why it was skipped, or has failed"
    )
    created_at = models.DateTimeField()
    armed_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="workflow_actions_action_status",
                condition=Q(status__in=["waiting", "held", "armed", "running", *ENDED]),
            ),
            models.UniqueConstraint(
                fields=["job_id", "generation", "index"], name="workflow_actions_action_once"
            ),
        ]
        indexes = [
            models.Index(
                fields=["job_id"],
                name="workflow_actions_waiting",
                condition=Q(status__in=["waiting", "held", "armed", "running"]),
            ),
            models.Index(
                fields=["id"], name="workflow_actions_unsettled", condition=Q(is_settled=False)
            ),
        ]

    def __str__(self) -> str:
        return self.name or f"workflow_actions[{self.index}]"


class Member(models.Model):
    """One step that an action watches. A set, not a counter: a step counts once, whatever happens
    to it."""

    id = models.BigAutoField(primary_key=True)
    action = models.ForeignKey(
        JobAction,
        on_delete=models.CASCADE,
        related_name="members",
        db_constraint=False,
        db_index=False,
    )
    job_id = models.UUIDField()
    step_name = models.CharField(max_length=300)
    reached_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=12, blank=True, default="", db_default="")
    is_unreachable = models.BooleanField(
        default=False, db_default=False, help_text="It ended without ever having been ready"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["action", "step_name"], name="workflow_actions_member_once"
            )
        ]
        indexes = [
            models.Index(
                fields=["job_id", "step_name"],
                name="workflow_actions_unreached",
                condition=Q(reached_at__isnull=True),
            )
        ]


class Hold(models.Model):
    """A step that a barrier holds back: one of its `deps_left` is the action."""

    id = models.BigAutoField(primary_key=True)
    action = models.ForeignKey(
        JobAction,
        on_delete=models.CASCADE,
        related_name="holds",
        db_constraint=False,
        db_index=False,
    )
    job_id = models.UUIDField()
    step_name = models.CharField(max_length=300)
    released_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["action", "step_name"], name="workflow_actions_hold_once"
            )
        ]
        indexes = [
            models.Index(
                fields=["job_id", "step_name"],
                name="workflow_actions_held",
                condition=Q(released_at__isnull=True),
            )
        ]


class ActionRun(models.Model):
    """One try of an action by one worker, with its lease. `(id, fence)` names it for ever."""

    class Status(models.TextChoices):
        READY = "ready", "ready"
        RUNNING = "running", "running"
        SUCCEEDED = "succeeded", "succeeded"
        FAILED = "failed", "failed"
        CANCELLED = "cancelled", "cancelled"
        LOST = "lost", "lost"

    id = models.BigAutoField(primary_key=True)
    action = models.ForeignKey(
        JobAction,
        on_delete=models.CASCADE,
        related_name="runs",
        db_constraint=False,
        db_index=False,
    )
    job_id = models.UUIDField()
    session_id = models.BigIntegerField(
        null=True, help_text="The session that it belongs to; null: once for the job"
    )
    bound_to = models.UUIDField(null=True, help_text="The only worker that may take it")
    number = models.SmallIntegerField(default=1, help_text="From 1; lost ones do not count")
    status = models.CharField(
        max_length=10, choices=Status, default=Status.READY, db_default="ready"
    )
    tag_set_id = models.SmallIntegerField()
    fence = models.IntegerField(default=0, db_default=0)
    losses = models.SmallIntegerField(default=0, db_default=0)
    worker_id = models.UUIDField(null=True)
    lease_until = models.DateTimeField(null=True)
    due_at = models.DateTimeField()
    command = models.SmallIntegerField(null=True, help_text="How many of its commands were begun")
    exit_code = models.IntegerField(null=True)
    error = models.TextField(blank=True, default="", db_default="")
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="workflow_actions_run_status",
                condition=Q(
                    status__in=["ready", "running", "succeeded", "failed", "cancelled", "lost"]
                ),
            ),
            models.UniqueConstraint(
                fields=["action"],
                name="workflow_actions_run_once",
                condition=Q(session_id__isnull=True, status__in=["ready", "running", "succeeded"]),
            ),
            models.UniqueConstraint(
                fields=["action", "session_id"],
                name="workflow_actions_run_session",
                condition=Q(session_id__isnull=False, status__in=["ready", "running", "succeeded"]),
            ),
        ]
        indexes = [
            models.Index(
                fields=["tag_set_id", "id"],
                name="workflow_actions_run_claim",
                condition=Q(status="ready"),
            ),
            models.Index(
                fields=["lease_until"],
                name="workflow_actions_run_lease",
                condition=Q(status="running"),
            ),
            models.Index(fields=["action", "id"], name="workflow_actions_run_action"),
            models.Index(fields=["job_id"], name="workflow_actions_run_job"),
        ]

    def __str__(self) -> str:
        return f"run {self.number} of {self.action}"
