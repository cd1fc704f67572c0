"""Subscriptions, and what became of their messages."""

from __future__ import annotations

from rest_framework import serializers

from apps.api.shapes.base import Asked, Shape, Values
from apps.subscriptions import services
from apps.subscriptions.models import Delivery, Subscription
from apps.subscriptions.values import EVENTS

KNOWN = ", ".join(EVENTS)


class ChangeRequest(Asked):
    url = serializers.CharField(max_length=1000)
    events = serializers.ListField(
        child=serializers.CharField(max_length=30), max_length=50, help_text=f"Some of: {KNOWN}"
    )
    with_output = serializers.BooleanField(
        default=False, help_text="Messages about completed jobs hold their output"
    )
    paused = serializers.BooleanField(default=False)


class CreateRequest(Asked):
    name = serializers.CharField(max_length=100)
    url = serializers.CharField(max_length=1000)
    events = serializers.ListField(
        child=serializers.CharField(max_length=30), max_length=50, help_text=f"Some of: {KNOWN}"
    )
    with_output = serializers.BooleanField(
        default=False, help_text="Messages about completed jobs hold their output"
    )


class SubscriptionShape(Shape[Subscription]):
    workspace = serializers.CharField(source="workspace.name")
    name = serializers.CharField()
    url = serializers.CharField()
    events = serializers.ListField(child=serializers.CharField())
    with_output = serializers.BooleanField()
    state = serializers.SerializerMethodField(help_text="live, failing or paused")
    paused_at = serializers.DateTimeField(required=False)
    paused_because = serializers.CharField(help_text="Empty if a person paused it")
    failures = serializers.IntegerField(help_text="Failed tries in a row")
    last_error = serializers.CharField()
    last_tried_at = serializers.DateTimeField(required=False)
    previous_secret_until = serializers.DateTimeField(
        source="previous_until",
        required=False,
        help_text="Until then, messages are signed with the secret before the last change, too",
    )
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()

    def get_state(self, row: Subscription) -> str:
        return services.state_of(row)


class NewSecretShape(Shape[Values]):
    subscription = SubscriptionShape()
    secret = serializers.CharField(help_text="Nobody can read it again")


class DeliveryShape(Shape[Delivery]):
    id = serializers.IntegerField()
    message_id = serializers.CharField(help_text="The header `webhook-id`")
    event = serializers.CharField()
    job_id = serializers.UUIDField(required=False)
    status = serializers.CharField(help_text="waiting, delivered or failed")
    tries = serializers.IntegerField()
    next_at = serializers.DateTimeField(required=False, help_text="When it is tried again")
    answer = serializers.IntegerField(required=False, help_text="HTTP status of the last answer")
    error = serializers.CharField(help_text="Why the last try failed")
    took_ms = serializers.IntegerField(required=False)
    tried_at = serializers.DateTimeField(required=False)
    created_at = serializers.DateTimeField()
    body = serializers.CharField(help_text="As it is sent")


class DeliveryPage(Shape[Values]):
    items = DeliveryShape(many=True)
    total = serializers.IntegerField()
