"""Triggers, and what became of the times they fired."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from django.utils import timezone
from rest_framework import serializers

from apps.api.shapes.base import FrozenField, Shape, Values
from apps.triggers import services
from apps.triggers.models import Firing, Trigger
from apps.triggers.values import SourceState


class FiringShape(Shape[Firing]):
    id = serializers.IntegerField()
    cause = serializers.CharField()
    status = serializers.CharField(
        help_text="waiting, started, skipped, missed, refused, dead or superseded"
    )
    reason = serializers.CharField(help_text="Why there is no job, or not yet")
    job_id = serializers.UUIDField(required=False)
    scheduled_at = serializers.DateTimeField(source="slot", required=False)
    until = serializers.DateTimeField(required=False, help_text="Of missed ones: the last")
    count = serializers.IntegerField(help_text="Of missed ones: how many")
    by = serializers.CharField()
    created_at = serializers.DateTimeField()


class SourceShape(Shape[SourceState]):
    state = serializers.CharField(
        help_text="running, waiting (for a worker), stopping, restarting, resting or off"
    )
    worker = serializers.CharField(help_text="On which it runs; empty while it does not")
    consumer_job_id = serializers.UUIDField(source="consumer_id", required=False)
    restarts = serializers.IntegerField()
    failures = serializers.IntegerField(help_text="Ends by failure in a row")
    error = serializers.CharField(help_text="Why the last consumer failed")
    next_at = serializers.DateTimeField(required=False, help_text="When the next one starts")
    events = serializers.IntegerField(help_text="Stored ones, dead letters included")
    last_event_at = serializers.DateTimeField(required=False)
    in_flight = serializers.IntegerField(help_text="Open jobs of its events, counted up to 1000")
    dead_letters = serializers.IntegerField(help_text="Counted up to 1000")


class TriggerStateShape(Shape[Trigger]):
    workspace = serializers.CharField(source="workspace.name")
    name = serializers.CharField()
    type = serializers.CharField(source="kind")
    task = serializers.CharField(source="definition.options.task")
    target_task = serializers.CharField(source="definition.options.target_task", required=False)
    cron = serializers.CharField(source="definition.options.cron", required=False)
    timezone = serializers.CharField(source="definition.options.timezone", required=False)
    enabled = serializers.BooleanField(source="is_enabled")
    input = FrozenField(source="definition.input")
    state = serializers.SerializerMethodField(
        help_text="live, failing, resting, paused, off or gone"
    )
    fires = serializers.SerializerMethodField(help_text="What makes it fire, in words")
    next_runs = serializers.SerializerMethodField()
    paused_at = serializers.DateTimeField(required=False)
    paused_by = serializers.CharField()
    last_fired_at = serializers.DateTimeField(required=False)
    last_job_id = serializers.UUIDField(required=False)
    failures = serializers.IntegerField(help_text="Refused firings in a row")
    last_error = serializers.CharField()
    event_source = SourceShape(source="seen_source", required=False)

    def get_state(self, row: Trigger) -> str:
        return services.state_of(row)

    def get_fires(self, row: Trigger) -> str:
        return services.described(row)

    def get_next_runs(self, row: Trigger) -> list[datetime]:
        return services.next_runs(row, timezone.now())


class TriggerPage(Shape[Values]):
    items = TriggerStateShape(many=True)
    total = serializers.IntegerField()


class TriggerHistory(NamedTuple):
    trigger: Trigger
    firings: list[Firing]
    dead_letters: list[Firing]


class TriggerDetailShape(Shape[TriggerHistory]):
    trigger = TriggerStateShape()
    firings = FiringShape(many=True)
    dead_letters = FiringShape(many=True, help_text="Events of which no job could be made")


class DealtShape(Shape[Values]):
    items = FiringShape(many=True, help_text="What became of each")
