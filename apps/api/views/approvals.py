"""Approvals: what waits for the caller, one request with its history, and what may be done to it.

Reading a request needs the role viewer; who may decide is said by the request itself, and asked
again by the service.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.api import scope, shapes
from apps.api.paging import window
from apps.api.serializers import ErrorShape
from apps.approvals import delegations, links, rights, services
from apps.approvals.models import ApprovalRequest, Record
from apps.approvals.services import Caller
from engine.errors import NotFound
from engine.spec.model import InputField

_PAGE = [OpenApiParameter("limit", int), OpenApiParameter("offset", int)]
_ERRORS = {403: ErrorShape, 404: ErrorShape, 409: ErrorShape}
MOST_RECORDS = 500


class DecideRequest(serializers.Serializer):
    approved = serializers.BooleanField()
    input = serializers.DictField(required=False, allow_null=True)
    rejection_reason = serializers.CharField(
        required=False, allow_null=True, allow_blank=True, max_length=20_000, trim_whitespace=False
    )
    shown = serializers.CharField(
        required=False,
        allow_null=True,
        max_length=64,
        help_text="`digest` of the request that the person saw",
    )


class DecidedShape(serializers.Serializer):
    status = serializers.ChoiceField(["approved", "rejected", "suspended"])


class DelegateRequest(serializers.Serializer):
    to = serializers.CharField(
        max_length=254, allow_null=True, help_text="E-mail; null takes the decision back"
    )


class LinkRequest(serializers.Serializer):
    user = serializers.CharField(
        required=False, allow_null=True, max_length=254, help_text="E-mail; else the caller"
    )


class LinkShape(serializers.Serializer):
    url = serializers.CharField()


class VoteShape(serializers.Serializer):
    user = serializers.CharField()
    approved = serializers.BooleanField()
    reason = serializers.CharField(allow_null=True)
    input = serializers.JSONField(allow_null=True)
    at = serializers.DateTimeField()


class RecordShape(serializers.Serializer):
    actor = serializers.CharField(allow_null=True)
    what = serializers.CharField()
    outcome = serializers.CharField()
    detail = serializers.CharField(allow_null=True)
    via = serializers.CharField()
    address = serializers.CharField(allow_null=True)
    at = serializers.DateTimeField()


class ApprovalShape(serializers.Serializer):
    job_id = serializers.UUIDField()
    workspace = serializers.CharField()
    task_name = serializers.CharField()
    step_name = serializers.CharField()
    status = serializers.ChoiceField(["open", "approved", "rejected", "timed_out", "cancelled"])
    message = serializers.CharField()
    fields = serializers.DictField()  # type: ignore[assignment]  (DRF's own attribute is called so, too)
    digest = serializers.CharField()
    users = serializers.ListField(child=serializers.CharField())
    groups = serializers.ListField(child=serializers.CharField())
    min_approvals = serializers.IntegerField()
    separation = serializers.BooleanField()
    created_at = serializers.DateTimeField()
    deadline_at = serializers.DateTimeField(allow_null=True)
    closed_at = serializers.DateTimeField(allow_null=True)
    closed_by = serializers.CharField(allow_null=True)
    reason = serializers.CharField(allow_null=True)


class InboxView(APIView):
    """Open requests that wait for the caller, the oldest first."""

    @extend_schema(
        operation_id="approvals_list",
        parameters=_PAGE,
        responses={200: dict[str, Any], 400: ErrorShape},
    )
    def get(self, request: Request) -> Response:
        found = ApprovalRequest.objects.waiting_for(request.user)
        rows = found.select_related("workspace").order_by("created_at", "id")[window(request)]
        return Response({"items": [_shape(row) for row in rows], "total": found.count()})


class ApprovalView(APIView):
    """The newest request of a step, with its votes and everything that was tried."""

    @extend_schema(responses={200: ApprovalShape, 404: ErrorShape, 409: ErrorShape})
    def get(self, request: Request, job: str, step: str) -> Response:
        row = _request(request, job, step)
        records = Record.objects.filter(request_id=row.pk).order_by("id")[:MOST_RECORDS]
        return Response(
            _shape(row)
            | {
                "why_not": rights.why_not(request.user, row) or None,
                "votes": [
                    VoteShape(_vote(vote)).data
                    for vote in row.votes.select_related("user").order_by("at")
                ],
                "delegations": [
                    {"giver": found.giver.email, "taker": found.taker.email}
                    for found in row.delegations.select_related("giver", "taker").order_by("id")
                ],
                "records": [_record(record) for record in records],
            }
        )


class DecideView(APIView):
    @extend_schema(request=DecideRequest, responses={200: DecidedShape, 400: ErrorShape, **_ERRORS})
    def post(self, request: Request, job: str, step: str) -> Response:
        values = _checked(DecideRequest, request)
        row = _request(request, job, step, "approve" if values["approved"] else "reject")
        decided = services.decide(
            row.pk,
            _caller(request),
            approved=values["approved"],
            given=values.get("input"),
            reason=values.get("rejection_reason") or "",
            shown=values.get("shown"),
        )
        return Response({"status": decided.status})


class WithdrawView(APIView):
    """Takes the caller's own approval back while others are still needed."""

    @extend_schema(request=None, responses={200: DecidedShape, **_ERRORS})
    def post(self, request: Request, job: str, step: str) -> Response:
        row = _request(request, job, step, "withdraw")
        return Response({"status": services.withdraw(row.pk, _caller(request)).status})


class DelegateView(APIView):
    @extend_schema(
        request=DelegateRequest, responses={200: DecidedShape, 400: ErrorShape, **_ERRORS}
    )
    def post(self, request: Request, job: str, step: str) -> Response:
        row = _request(request, job, step, "delegate")
        to = _checked(DelegateRequest, request)["to"]
        if to is None:
            delegations.take_back(row.pk, _caller(request))
        else:
            delegations.delegate(row.pk, _caller(request), to)
        return Response({"status": "suspended"})


class LinkView(APIView):
    """A link that leads one person to the page of the request, once. It decides nothing."""

    @extend_schema(request=LinkRequest, responses={200: LinkShape, 400: ErrorShape, **_ERRORS})
    def post(self, request: Request, job: str, step: str) -> Response:
        row = _request(request, job, step)
        user = _checked(LinkRequest, request).get("user") or ""
        return Response({"url": links.link_for(row, _caller(request), user)})


def _request(request: Request, job: str, step: str, what: str = "") -> ApprovalRequest:
    """The request that the address means. A try (`what`) of somebody who must not see the job is
    recorded."""
    try:
        row = scope.job(request.user, job)
    except NotFound:
        if what:
            services.record_unseen(
                scope.uuid_of(job, "Invalid job ID"), step, _caller(request), what
            )
        raise
    return services.request_of(row.pk, step)


def _caller(request: Request) -> Caller:
    return Caller(request.user, "api", str(request.META.get("REMOTE_ADDR", "")))


def _checked(kind: type[serializers.Serializer], request: Request) -> Mapping[str, Any]:
    given = kind(data=request.data)
    given.is_valid(raise_exception=True)
    return dict(given.validated_data)


def _shape(row: ApprovalRequest) -> dict[str, Any]:
    return {
        "job_id": row.job_id,
        "workspace": row.workspace.name,
        "task_name": row.task_name,
        "step_name": row.step_name,
        "status": row.status,
        "message": row.message,
        "fields": {
            name: shapes.input_field(InputField(**values)) for name, values in row.fields.items()
        },
        "digest": row.digest,
        "users": row.users,
        "groups": row.groups,
        "min_approvals": row.min_approvals,
        "separation": row.separation,
        "created_at": row.created_at,
        "deadline_at": row.deadline_at,
        "closed_at": row.closed_at,
        "closed_by": row.closed_by or None,
        "reason": row.reason or None,
    }


def _vote(vote: Any) -> dict[str, Any]:
    return {
        "user": vote.user.email,
        "approved": vote.approved,
        "reason": vote.reason or None,
        "input": vote.input,
        "at": vote.at,
    }


def _record(record: Record) -> dict[str, Any]:
    return {
        "actor": record.actor or None,
        "what": record.what,
        "outcome": record.outcome,
        "detail": record.detail or None,
        "via": record.via,
        "address": record.address or None,
        "at": record.at,
    }
