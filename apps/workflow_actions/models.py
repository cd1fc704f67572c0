"""Workflow actions of jobs: what each waits for, and what it holds back. Their work is done by
units in the table of steps.

Like steps, the rows refer to each other and to jobs by plain id columns: nothing here may wait for
a job's lock.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from engine.lifecycle import UNENDED_ACTION, ActionStatus, choices


class JobAction(models.Model):
    """One workflow action of a job, in one generation of the job."""

    id = models.BigAutoField(primary_key=True)
    job_id = models.UUIDField()
    generation = models.SmallIntegerField()
    index = models.SmallIntegerField(help_text="Place in the task's list")
    name = models.CharField(max_length=300, blank=True)
    trigger_type = models.CharField(max_length=30)
    status = models.CharField(
        max_length=12,
        choices=choices(ActionStatus),
        default=ActionStatus.WAITING,
        db_default="waiting",
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
                condition=Q(status__in=[status.value for status in ActionStatus]),
            ),
            models.UniqueConstraint(
                fields=["job_id", "generation", "index"], name="workflow_actions_action_once"
            ),
        ]
        indexes = [
            models.Index(
                fields=["job_id"],
                name="workflow_actions_waiting",
                condition=Q(status__in=[status.value for status in UNENDED_ACTION]),
            ),
            models.Index(
                fields=["id"], name="workflow_actions_unsettled", condition=Q(is_settled=False)
            ),
        ]

    def __str__(self) -> str:
        return self.name or f"workflow_actions[{self.index}]"


class Member(models.Model):
    """One step that an action watches. A set, not a counter: each step counts once, whatever
    happens to it."""

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


class Share(models.Model):
    """The unit for one worker session's share of an action that every session does."""

    unit_id = models.BigIntegerField(primary_key=True)
    action = models.ForeignKey(
        JobAction,
        on_delete=models.CASCADE,
        related_name="shares",
        db_constraint=False,
        db_index=False,
    )
    session_id = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["action", "session_id"], name="workflow_actions_share_once"
            )
        ]
