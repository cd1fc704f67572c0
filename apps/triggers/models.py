"""Triggers, every time one of them fired, and the deliveries that webhooks received.

Firings refer to their job by a plain id: history must not wait for the lock of a job, and stays
when retention removes the job.
"""

from __future__ import annotations

from typing import Self

from django.db import models
from django.db.models import Q

from apps.triggers.values import SourceState
from engine.lifecycle import FiringStatus, choices
from engine.spec import freeze
from engine.spec.model import Trigger as Definition
from engine.spec.triggers import TYPES


class TriggerQuerySet(models.QuerySet["Trigger"]):
    def live(self) -> Self:
        """Those that fire: in the files, enabled there, and not paused."""
        return self.filter(LIVE)


LIVE = Q(is_listed=True, is_enabled=True, paused_at=None)


class Trigger(models.Model):
    """A trigger of a workspace. One that left the files stays, with its history, but never
    fires."""

    workspace = models.ForeignKey(
        "workspaces.Workspace", on_delete=models.CASCADE, related_name="triggers"
    )
    name = models.CharField(max_length=300)
    kind = models.CharField(max_length=20, choices=[(kind, kind) for kind in TYPES])
    task = models.CharField(max_length=300, help_text="The task whose jobs it starts")
    address = models.CharField(
        max_length=200, blank=True, default="", help_text="Of a webhook: the last part of its URL"
    )
    watched = models.CharField(
        max_length=401,
        blank=True,
        default="",
        db_default="",
        help_text="WORKSPACE/TASK whose ends of jobs make it fire, if it is another workspace's",
    )
    definition = models.JSONField(help_text="As in the files, without secret values")
    is_listed = models.BooleanField(default=True, help_text="The files of the workspace have it")
    is_enabled = models.BooleanField(default=True, help_text="The files do not disable it")
    paused_at = models.DateTimeField(null=True, blank=True)
    paused_by = models.CharField(max_length=254, blank=True, default="")
    next_slot = models.DateTimeField(
        null=True, blank=True, help_text="Of a clock: the next time it is set to"
    )
    next_at = models.DateTimeField(
        null=True, blank=True, help_text="When that slot fires, jitter included"
    )
    last_slot = models.DateTimeField(null=True, blank=True)
    last_fired_at = models.DateTimeField(null=True, blank=True)
    last_job_id = models.UUIDField(null=True, blank=True)
    failures = models.IntegerField(default=0, help_text="Refused firings in a row")
    last_error = models.TextField(blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = TriggerQuerySet.as_manager()
    seen_source: SourceState | None = None  # see snapshots.with_sources

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace", "name"], name="triggers_trigger_once")
        ]
        indexes = [
            models.Index(
                fields=["next_at"], name="triggers_due", condition=Q(next_at__isnull=False)
            ),
            models.Index(fields=["address"], name="triggers_address", condition=~Q(address="")),
            models.Index(fields=["watched"], name="triggers_watched", condition=~Q(watched="")),
        ]

    def __str__(self) -> str:
        return f"{self.workspace.name}/{self.name}"

    @property
    def described(self) -> Definition:
        """The trigger as its files describe it, without secret values."""
        return freeze.trigger_from_json(self.definition)

    @property
    def is_live(self) -> bool:
        return self.is_listed and self.is_enabled and self.paused_at is None


class Source(models.Model):
    """The consumer of an event source: the one job whose output is its events."""

    trigger = models.OneToOneField(
        Trigger, on_delete=models.CASCADE, primary_key=True, related_name="source"
    )
    consumer_id = models.UUIDField(null=True, help_text="Its job, or the last one")
    revision_id = models.BigIntegerField(null=True, help_text="On whose files it runs")
    is_stopping = models.BooleanField(default=False, help_text="The platform has told it to stop")
    is_noted = models.BooleanField(default=True, help_text="What follows from its end was written")
    is_resting = models.BooleanField(default=False, help_text="Its policy starts no other")
    next_at = models.DateTimeField(null=True, help_text="When the next consumer may start")
    failures = models.IntegerField(default=0, help_text="Ends by failure in a row")
    error = models.TextField(blank=True, default="", help_text="Why the last one ended")
    starts = models.BigIntegerField(default=0)
    events = models.BigIntegerField(default=0, help_text="Stored, dead letters included")
    last_event_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["consumer_id"], name="triggers_source_consumer")
        ]

    def __str__(self) -> str:
        return str(self.trigger)


class Firing(models.Model):
    """One time that a trigger fired or should have. A slot, and a key, exists once per trigger:
    whoever inserts the row starts the job."""

    class Cause(models.TextChoices):
        SLOT = "slot", "Clock"
        DELIVERY = "delivery", "Delivery"
        EVENT = "event", "Event"
        JOB = "job", "End of a job"
        HAND = "hand", "By hand"

    trigger = models.ForeignKey(Trigger, on_delete=models.CASCADE, related_name="firings")
    cause = models.CharField(max_length=10, choices=Cause)
    slot = models.DateTimeField(null=True, help_text="The time that the clock was set to")
    key = models.CharField(
        max_length=200, blank=True, default="", help_text="Of a delivery, an event or a job's end"
    )
    idempotency = models.CharField(
        max_length=64, blank=True, default="", help_text="Digest of the rendered idempotency_key"
    )
    status = models.CharField(max_length=12, choices=choices(FiringStatus))
    reason = models.TextField(blank=True, default="")
    job_id = models.UUIDField(null=True)
    until = models.DateTimeField(null=True, help_text="Of missed slots: the last one")
    count = models.IntegerField(default=1, help_text="Of missed slots: how many")
    due_at = models.DateTimeField(null=True, help_text="Of a waiting one: when to look again")
    sealed = models.BinaryField(
        null=True, help_text="Of a waiting one: what its templates read, encrypted"
    )
    by = models.CharField(max_length=254, blank=True, default="")
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["trigger", "slot"],
                name="triggers_slot_once",
                condition=Q(slot__isnull=False),
            ),
            models.UniqueConstraint(
                fields=["trigger", "key"], name="triggers_key_once", condition=~Q(key="")
            ),
            models.CheckConstraint(
                name="triggers_firing_status",
                condition=Q(status__in=[status.value for status in FiringStatus]),
            ),
        ]
        indexes = [
            models.Index(fields=["trigger", "-created_at"], name="triggers_newest"),
            models.Index(
                fields=["due_at"],
                name="triggers_waiting",
                condition=Q(status=FiringStatus.WAITING.value),
            ),
            models.Index(
                fields=["trigger", "id"],
                name="triggers_dead",
                condition=Q(status=FiringStatus.DEAD.value),
            ),
            models.Index(
                fields=["trigger", "idempotency", "-created_at"],
                name="triggers_idempotency",
                condition=~Q(idempotency=""),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.trigger} {self.created_at:%Y-%m-%d %H:%M:%S}"


class Delivery(models.Model):
    """One request that a webhook received, and what came of it. Headers and body are kept without
    credentials; the body is encrypted, so that it can be sent again."""

    class Outcome(models.TextChoices):
        STARTED = "started", "Started a job"
        REPEATED = "repeated", "Repeats an earlier delivery"
        SKIPPED = "skipped", "Skipped"
        REFUSED = "refused", "Refused"
        REJECTED = "rejected", "Not verified"

    trigger = models.ForeignKey(Trigger, on_delete=models.CASCADE, related_name="deliveries")
    firing = models.ForeignKey(Firing, null=True, on_delete=models.SET_NULL, related_name="+")
    delivery_id = models.CharField(max_length=200, blank=True, default="")
    method = models.CharField(max_length=10)
    headers = models.JSONField(default=dict)
    query = models.JSONField(default=dict)
    sealed_body = models.BinaryField(null=True)
    size_bytes = models.IntegerField(default=0)
    outcome = models.CharField(max_length=10, choices=Outcome)
    answer = models.SmallIntegerField(help_text="The HTTP status of the answer")
    reason = models.TextField(blank=True, default="")
    received_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["trigger", "-received_at"], name="triggers_deliveries")]
        verbose_name_plural = "deliveries"


class StartKey(models.Model):
    """An `Idempotency-Key` that a caller sent with a start: the same key brings the same job."""

    owner = models.CharField(max_length=300, help_text="The caller, the workspace and the task")
    key = models.CharField(max_length=64, help_text="Digest of the key")
    content = models.CharField(max_length=64, help_text="Digest of what was asked")
    job_id = models.UUIDField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["owner", "key"], name="triggers_start_key_once")
        ]
        indexes = [models.Index(fields=["created_at"], name="triggers_start_key_age")]
