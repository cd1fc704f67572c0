"""Conversations with models: every question, every answer and every tool call is a row, written
before the next one.

Rows name jobs and steps by plain ids, like those of logs. Columns that people see are masked; what
the next question needs in clear is sealed beside them.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Func, Q

from engine.lifecycle import CallStatus, choices

NOW = Func(function="clock_timestamp")


class Conversation(models.Model):
    """One run of an agent step: its retry, and its run after a restart, have others."""

    job_id = models.UUIDField()
    step_id = models.BigIntegerField()
    generation = models.SmallIntegerField()
    number = models.SmallIntegerField(help_text="Of the run, from 1")
    workspace = models.CharField(max_length=100)
    task_name = models.CharField(max_length=300)
    step_name = models.CharField(max_length=300)
    provider = models.CharField(max_length=200)
    model = models.CharField(max_length=200, blank=True)
    opening = models.JSONField(help_text="System prompt and prompt, secret values masked")
    opening_sealed = models.BinaryField(help_text="The same in clear, encrypted")
    offers = models.JSONField(
        null=True, help_text="The tools of MCP servers, as listed at the beginning"
    )
    stints = models.SmallIntegerField(
        default=0, db_default=0, help_text="How often it was taken up since its last new row"
    )
    parked_fence = models.IntegerField(
        null=True, help_text="The fence of the step while it waits for child jobs or a person"
    )
    asked_at = models.DateTimeField(null=True, help_text="Waits for a person since then")
    waited_s = models.FloatField(
        default=0.0, db_default=0.0, help_text="Spent waiting for people: no time-out counts it"
    )
    wants_more = models.CharField(
        max_length=300, default="", db_default="", help_text="The limit that people are asked about"
    )
    raised = models.SmallIntegerField(
        default=0, db_default=0, help_text="How often people allowed as much again"
    )
    no_more = models.CharField(
        max_length=500, default="", db_default="", help_text="Why they did not"
    )
    created_at = models.DateTimeField(db_default=NOW)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["step_id", "generation", "number"], name="agents_conversation_once"
            )
        ]
        indexes = [models.Index(fields=["job_id"], name="agents_conversation_job")]

    def __str__(self) -> str:
        return f"{self.task_name}: {self.step_name}"


class Turn(models.Model):
    """One question to the model and its answer."""

    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="turns")
    seq = models.SmallIntegerField()
    note = models.TextField(blank=True, help_text="What we told the model before it answered")
    is_last = models.BooleanField(default=False, db_default=False)
    asked_at = models.DateTimeField(db_default=NOW)
    asked = models.SmallIntegerField(
        default=1, db_default=1, help_text="How often: more than once after a crash"
    )
    answered_at = models.DateTimeField(null=True)
    answer = models.JSONField(null=True, help_text="Text and tool calls, secret values masked")
    answer_sealed = models.BinaryField(null=True, help_text="The whole answer, encrypted")
    finish = models.CharField(max_length=20, blank=True, default="", db_default="")
    tokens_in = models.IntegerField(default=0, db_default=0)
    tokens_out = models.IntegerField(default=0, db_default=0)
    cached = models.IntegerField(default=0, db_default=0)
    cost = models.DecimalField(
        max_digits=14, decimal_places=8, null=True, help_text="US dollars; null: not known"
    )
    latency_s = models.FloatField(default=0.0, db_default=0.0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["conversation", "seq"], name="agents_turn_once")
        ]
        indexes = [
            models.Index(
                fields=["answered_at"],
                name="agents_turn_answered",
                condition=Q(answered_at__isnull=False),
            )
        ]

    def __str__(self) -> str:
        return f"turn {self.seq}"


class Call(models.Model):
    """A tool call that an answer wants."""

    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="calls")
    seq = models.SmallIntegerField(help_text="Of the turn")
    index = models.SmallIntegerField(help_text="Within the answer")
    call_id = models.CharField(max_length=200, help_text="As the provider names it")
    tool = models.CharField(max_length=200)
    arguments = models.JSONField(null=True, help_text="Secret values masked")
    arguments_sealed = models.BinaryField(
        null=True, help_text="In clear, encrypted, if that differs"
    )
    digest = models.CharField(max_length=64, help_text="Of tool and arguments")
    status = models.CharField(
        max_length=10, choices=choices(CallStatus), default=CallStatus.WANTED, db_default="wanted"
    )
    result = models.TextField(
        blank=True, default="", db_default="", help_text="As the model reads it"
    )
    child_job_id = models.UUIDField(null=True)
    approved_by = models.CharField(max_length=254, blank=True, default="", db_default="")
    begun_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["conversation", "seq", "index"], name="agents_call_once"
            ),
            models.CheckConstraint(
                name="agents_call_status", condition=Q(status__in=[s.value for s in CallStatus])
            ),
        ]
        indexes = [
            models.Index(
                fields=["child_job_id"],
                name="agents_call_child",
                condition=Q(child_job_id__isnull=False),
            )
        ]

    def __str__(self) -> str:
        return self.tool


class Spending(models.Model):
    """What the answers of one day took, by task and provider. It outlives the conversations."""

    day = models.DateField(help_text="In UTC")
    workspace = models.CharField(max_length=100)
    task_name = models.CharField(max_length=300)
    provider = models.CharField(max_length=200)
    answers = models.BigIntegerField()
    unpriced = models.BigIntegerField(help_text="Answers whose cost is not known")
    tokens_in = models.BigIntegerField()
    tokens_out = models.BigIntegerField()
    cached = models.BigIntegerField()
    cost = models.DecimalField(max_digits=20, decimal_places=8, help_text="US dollars")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["day", "workspace", "task_name", "provider"], name="agents_spending_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.day}: {self.task_name}, {self.provider}"


class RemovedSpending(models.Model):
    """What removed conversations took in the hours before their removal: limits of a day still
    count it."""

    at = models.DateTimeField(help_text="Of the last answer")
    answers = models.BigIntegerField()
    unpriced = models.BigIntegerField(help_text="Answers whose cost is not known")
    tokens = models.BigIntegerField()
    cost = models.DecimalField(max_digits=20, decimal_places=8, help_text="US dollars")

    def __str__(self) -> str:
        return f"{self.at}: {self.answers} answers"
