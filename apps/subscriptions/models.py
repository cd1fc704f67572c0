"""Subscriptions, and the messages that are sent for them."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from engine.lifecycle import DeliveryStatus, choices


class Subscription(models.Model):
    """An address outside that is told of some events of a workspace."""

    workspace = models.ForeignKey(
        "workspaces.Workspace", on_delete=models.CASCADE, related_name="subscriptions"
    )
    name = models.SlugField(max_length=100)
    url = models.CharField(max_length=1000)
    events = ArrayField(models.CharField(max_length=30))
    with_output = models.BooleanField(
        default=False, help_text="Messages about completed jobs hold their output"
    )
    sealed_secret = models.BinaryField()
    sealed_previous = models.BinaryField(null=True)
    previous_until = models.DateTimeField(
        null=True, blank=True, help_text="Until then, messages are signed with both secrets"
    )
    paused_at = models.DateTimeField(null=True, blank=True)
    paused_because = models.CharField(
        max_length=500, blank=True, default="", help_text="Empty if a person paused it"
    )
    failures = models.IntegerField(default=0, help_text="Failed tries in a row")
    last_error = models.TextField(blank=True, default="")
    last_tried_at = models.DateTimeField(null=True, blank=True)
    busy_until = models.DateTimeField(null=True, help_text="A scheduler sends for it until then")
    rest_until = models.DateTimeField(null=True, help_text="After a failure, nothing is sent")
    created_by = models.CharField(max_length=254, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace", "name"], name="subscriptions_once")
        ]

    def __str__(self) -> str:
        return f"{self.workspace.name}/{self.name}"


class Delivery(models.Model):
    """One message to one receiver. It has no foreign key in the database: the end of a job must
    neither wait for nor fail by the removal of a subscription."""

    subscription = models.ForeignKey(
        Subscription,
        on_delete=models.CASCADE,
        related_name="deliveries",
        db_constraint=False,
        db_index=False,
    )
    message = models.UUIDField(help_text="The same when it is sent again")
    event = models.CharField(max_length=30)
    job_id = models.UUIDField(null=True)
    body = models.TextField(help_text="As it is signed and sent; secret values are masked")
    status = models.CharField(max_length=12, choices=choices(DeliveryStatus))
    tries = models.SmallIntegerField(default=0)
    next_at = models.DateTimeField(null=True, help_text="Of a waiting one: the next try")
    answer = models.SmallIntegerField(null=True, help_text="HTTP status of the last answer")
    error = models.TextField(blank=True, default="", help_text="Why the last try failed")
    took_ms = models.IntegerField(null=True)
    tried_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "deliveries"
        constraints = [
            models.CheckConstraint(
                name="subscriptions_delivery_status",
                condition=Q(status__in=[status.value for status in DeliveryStatus]),
            )
        ]
        indexes = [
            models.Index(
                fields=["subscription", "next_at"],
                name="subscriptions_due",
                condition=Q(status=DeliveryStatus.WAITING.value),
            ),
            models.Index(fields=["subscription", "status", "-id"], name="subscriptions_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.event} {self.message}"

    @property
    def message_id(self) -> str:
        """As the receiver sees it."""
        return f"msg_{self.message.hex}"
