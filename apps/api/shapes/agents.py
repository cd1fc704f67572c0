"""Conversations of agent steps, and what they cost."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.agents.spending import Cost, Costs, DayCost, TaskCost
from apps.agents.transcripts import CallRead, Spent, TurnRead
from apps.api.shapes.base import Shape, TextOrNull, Values, listed
from engine.lifecycle import CallStatus


class CallShape(Shape[CallRead]):
    tool = serializers.CharField()
    status = serializers.ChoiceField([status.value for status in CallStatus])
    arguments = serializers.CharField(source="arguments.text", help_text="JSON as text")
    result = TextOrNull(source="result.text", help_text="What the model reads")
    child_job_id = serializers.UUIDField(allow_null=True)
    approved_by = TextOrNull()
    begun_at = serializers.DateTimeField(allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True)


class TurnShape(Shape[TurnRead]):
    turn = serializers.IntegerField(source="seq")
    note = TextOrNull(source="note.text", help_text="What the model was told before")
    text = TextOrNull(source="text.text", help_text="What the model says")
    output = TextOrNull(source="output.text", help_text="A structured answer: JSON as text")
    finish = TextOrNull(help_text="Why the answer ended; null while there is none")
    asked_at = serializers.DateTimeField()
    asked = serializers.IntegerField(help_text="How often: more than once after a crash")
    answered_at = serializers.DateTimeField(allow_null=True)
    tokens_in = serializers.IntegerField()
    tokens_out = serializers.IntegerField()
    tokens_cached = serializers.IntegerField()
    cost = serializers.FloatField(allow_null=True, help_text="US dollars; null: not known")
    latency_s = serializers.FloatField()
    calls = CallShape(many=True, help_text="The first 20; of one `turn`, the first 100")
    calls_total = serializers.IntegerField()
    is_cut = serializers.BooleanField(help_text="Texts or calls are left out")


class SpentShape(Shape[Spent]):
    turns = serializers.IntegerField(help_text="Answers of the model")
    tool_calls = serializers.IntegerField()
    tokens_in = serializers.IntegerField()
    tokens_out = serializers.IntegerField()
    tokens_cached = serializers.IntegerField()
    cost = serializers.FloatField(allow_null=True, help_text="US dollars; null: not known")
    latency_s = serializers.FloatField()
    waited_s = serializers.FloatField(help_text="For people")


class TranscriptShape(Shape[Values]):  # of a `step`, and what was `read`: None before it begins
    job_id = serializers.UUIDField()
    step_name = serializers.CharField(source="step.name")
    status = serializers.CharField(source="step.status")
    run = serializers.IntegerField(source="read.run", allow_null=True, help_text="From 1")
    runs = serializers.SerializerMethodField(help_text="0 before the conversation begins")
    provider = serializers.CharField(source="read.provider", allow_null=True)
    model = serializers.CharField(source="read.model", allow_null=True)
    began_at = serializers.DateTimeField(source="read.created_at", allow_null=True)
    asked_at = serializers.DateTimeField(
        source="read.asked_at", allow_null=True, help_text="A person is asked since then"
    )
    system_prompt = serializers.CharField(source="read.system.text", allow_null=True)
    prompt = serializers.CharField(source="read.prompt.text", allow_null=True)
    spent = SpentShape(source="read.spent", allow_null=True)
    turns = serializers.SerializerMethodField()
    next = serializers.SerializerMethodField(help_text="Send it as `after`; null on the last page")

    def get_runs(self, row: Values) -> int:
        return row["read"].runs if row["read"] else 0

    @extend_schema_field(TurnShape(many=True))
    def get_turns(self, row: Values) -> list[dict[str, Any]]:
        return listed(TurnShape, row["read"].turns) if row["read"] else []

    @extend_schema_field(serializers.IntegerField(allow_null=True))
    def get_next(self, row: Values) -> int | None:
        turns = row["read"].turns if row["read"] else []
        return turns[-1].seq if len(turns) == row["limit"] else None


class CostShape(Shape[Cost]):
    answers = serializers.IntegerField()
    unpriced = serializers.IntegerField(help_text="Answers whose cost is not known: not in `cost`")
    tokens_in = serializers.IntegerField()
    tokens_out = serializers.IntegerField()
    tokens_cached = serializers.IntegerField()
    cost = serializers.FloatField(help_text="US dollars")


class DayCostShape(Shape[DayCost]):
    day = serializers.DateField()
    provider = serializers.CharField()
    spent = CostShape()


class TaskCostShape(Shape[TaskCost]):
    workspace = serializers.CharField()
    task_name = serializers.CharField()
    spent = CostShape()


class ProviderCostShape(Shape[Values]):
    provider = serializers.CharField()
    spent = CostShape()


class CostsShape(Shape[Costs]):
    since = serializers.DateField(help_text="The first day, in UTC")
    until = serializers.DateField(help_text="The last day: today")
    total = CostShape()
    days = DayCostShape(many=True, help_text="By day and provider, where there was an answer")
    tasks = TaskCostShape(many=True, help_text="The dearest 100 first")
    has_more_tasks = serializers.BooleanField(source="has_more")
    providers = serializers.SerializerMethodField()

    @extend_schema_field(ProviderCostShape(many=True))
    def get_providers(self, row: Costs) -> list[dict[str, Any]]:
        rows = [{"provider": name, "spent": spent} for name, spent in row.providers]
        return listed(ProviderCostShape, rows)
