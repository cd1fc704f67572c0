"""Approval requests, their votes and their records."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.api.shapes.base import Asked, Shape, TextOrNull, Values, listed
from apps.api.shapes.workspaces import InputFieldShape
from apps.approvals import rights
from apps.approvals.models import ApprovalRequest, Delegation, Record, Vote
from apps.workspaces.rights import NO_INPUTS
from engine.lifecycle import RequestStatus, StepStatus
from engine.spec.model import InputField

MOST_RECORDS = 500


class DecideRequest(Asked):
    approved = serializers.BooleanField()
    input = serializers.DictField(required=False, allow_null=True)
    rejection_reason = serializers.CharField(
        required=False, allow_null=True, allow_blank=True, max_length=20_000, trim_whitespace=False
    )
    shown = serializers.CharField(
        required=False,
        allow_null=True,
        max_length=64,
        help_text="`digest` of the request that the user saw",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Whoever gives a reason for a rejection did not mean to approve."""
        if attrs["approved"] and attrs.get("rejection_reason"):
            message = (
                "rejection_reason belongs to a rejection: leave it out, or send approved: false"
            )
            raise serializers.ValidationError({"rejection_reason": [message]})
        return attrs


class DecidedShape(Shape[Values]):
    status = serializers.ChoiceField(
        [RequestStatus.APPROVED.value, RequestStatus.REJECTED.value, StepStatus.SUSPENDED.value]
    )


class DelegateRequest(Asked):
    to = serializers.CharField(
        max_length=254, allow_null=True, help_text="E-mail; null takes the delegation back"
    )


class LinkRequest(Asked):
    user = serializers.CharField(
        required=False, allow_null=True, max_length=254, help_text="E-mail; else the caller"
    )


class LinkShape(Shape[Values]):
    url = serializers.CharField()


class VoteShape(Shape[Vote]):
    user = serializers.CharField(source="user.email")
    approved = serializers.BooleanField()
    reason = TextOrNull()
    input = serializers.JSONField(allow_null=True)
    at = serializers.DateTimeField()


class DelegationShape(Shape[Delegation]):
    giver = serializers.CharField(source="giver.email")
    taker = serializers.CharField(source="taker.email")


class RecordShape(Shape[Record]):
    actor = TextOrNull()
    what = serializers.CharField()
    outcome = serializers.CharField()
    detail = TextOrNull()
    via = serializers.CharField()
    address = TextOrNull()
    at = serializers.DateTimeField()


class FormFieldShape(InputFieldShape):  # as the request stores it
    def to_representation(self, instance: Any) -> dict[str, Any]:
        return super().to_representation(InputField(**instance))


class ApprovalShape(Shape[ApprovalRequest]):
    job_id = serializers.UUIDField()
    workspace = serializers.CharField(source="workspace.name")
    task_name = serializers.CharField()
    step_name = serializers.CharField()
    status = serializers.ChoiceField([status.value for status in RequestStatus])
    about = serializers.ChoiceField(
        ["step", "call", "question", "limit"],
        help_text="The step itself, or of an agent: a tool call, or a question",
    )
    summary = TextOrNull(help_text="Of an agent: what it asks, on one line")
    message = serializers.CharField()
    fields = serializers.DictField(child=FormFieldShape())  # type: ignore[assignment]  # of DRF, too
    digest = serializers.CharField()
    users = serializers.ListField(child=serializers.CharField())
    groups = serializers.ListField(child=serializers.CharField())
    asked = serializers.SerializerMethodField(help_text="Who may decide, in words")
    approvals = serializers.IntegerField(source="given", help_text="Given so far")
    min_approvals = serializers.IntegerField()
    separation = serializers.BooleanField()
    created_at = serializers.DateTimeField()
    deadline_at = serializers.DateTimeField(allow_null=True)
    closed_at = serializers.DateTimeField(allow_null=True)
    closed_by = TextOrNull()
    reason = TextOrNull()

    def get_asked(self, row: ApprovalRequest) -> str:
        return rights.asked_in_words(row)


class ApprovalPage(Shape[Values]):
    items = ApprovalShape(many=True)
    total = serializers.IntegerField()


class ApprovalDetailShape(ApprovalShape):  # the context says which `user` asks
    hidden = serializers.SerializerMethodField(
        help_text="What of the job is hidden from the caller, and whom to ask"
    )
    why_not = serializers.SerializerMethodField()
    votes = serializers.SerializerMethodField()
    delegations = serializers.SerializerMethodField()
    records = serializers.SerializerMethodField()

    def get_hidden(self, row: ApprovalRequest) -> str | None:
        return rights.hidden_from(self.context["user"], row) or None

    def get_why_not(self, row: ApprovalRequest) -> str | None:
        return rights.why_not(self.context["user"], row) or None

    @extend_schema_field(VoteShape(many=True))
    def get_votes(self, row: ApprovalRequest) -> list[Any]:
        votes = list(row.votes.select_related("user").order_by("at"))
        if row.message == NO_INPUTS:  # the answers in the form are inputs, too
            for vote in votes:
                vote.input = None
        return listed(VoteShape, votes)

    @extend_schema_field(DelegationShape(many=True))
    def get_delegations(self, row: ApprovalRequest) -> list[Any]:
        found = row.delegations.select_related("giver", "taker").order_by("id")
        return listed(DelegationShape, found)

    @extend_schema_field(RecordShape(many=True))
    def get_records(self, row: ApprovalRequest) -> list[Any]:
        found = Record.objects.filter(request_id=row.pk).order_by("id")[:MOST_RECORDS]
        return listed(RecordShape, found)
