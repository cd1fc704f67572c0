"""Approvals: the inbox, one request with its history, and the actions on it.

Reading a request takes the right to see its task. The request says who may decide; the service
checks it.
"""

from __future__ import annotations

from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.models import signed_in
from apps.api import scope
from apps.api.paging import window
from apps.api.shapes.approvals import (
    ApprovalDetailShape,
    ApprovalPage,
    DecidedShape,
    DecideRequest,
    DelegateRequest,
    LinkRequest,
    LinkShape,
)
from apps.api.shapes.base import ErrorShape, answer, checked
from apps.api.views.base import PAGE, ApiView
from apps.approvals import delegations, links, rights, services
from apps.approvals.models import ApprovalRequest
from apps.approvals.transitions import Caller
from engine.errors import NotFound
from engine.lifecycle import StepStatus

_PAGE = [OpenApiParameter("limit", int), OpenApiParameter("offset", int)]
_ERRORS = {403: ErrorShape, 404: ErrorShape, 409: ErrorShape}


class InboxView(ApiView):
    """Open requests that wait for the caller, oldest first; with `job`, those of this job, whoever
    may decide them."""

    query = {**PAGE, "job": "the id of a job"}

    @extend_schema(
        operation_id="approvals_list",
        parameters=[*_PAGE, OpenApiParameter("job", UUID)],
        responses={200: ApprovalPage, 400: ErrorShape, 404: ErrorShape},
    )
    def get(self, request: Request) -> Response:
        if job := request.query_params.get("job"):
            found = rights.open_of(scope.job(request.user, job).pk)
        else:
            found = rights.waiting_for(request.user)
        known = found.select_related("workspace").prefetch_related("votes")
        rows = known.order_by("created_at", "id")[window(request)]
        user = signed_in(request.user)
        items = [rights.veiled(user, row) for row in rows]
        return answer(ApprovalPage, {"items": items, "total": found.count()})


class ApprovalView(ApiView):
    """The newest request of a step, with its votes and its record."""

    @extend_schema(responses={200: ApprovalDetailShape, 404: ErrorShape, 409: ErrorShape})
    def get(self, request: Request, job: str, step: str) -> Response:
        row, user = _request(request, job, step), signed_in(request.user)
        if rights.right_to_decide(user, row) is None:
            rights.veiled(user, row)
        return answer(ApprovalDetailShape, row, user=user)


class DecideView(ApiView):
    @extend_schema(request=DecideRequest, responses={200: DecidedShape, 400: ErrorShape, **_ERRORS})
    def post(self, request: Request, job: str, step: str) -> Response:
        values = checked(DecideRequest, request)
        row = _request(request, job, step, "approve" if values["approved"] else "reject")
        decided = services.decide(
            row.pk,
            _caller(request),
            approved=values["approved"],
            given=values.get("input"),
            reason=values.get("rejection_reason") or "",
            shown=values.get("shown"),
        )
        return answer(DecidedShape, {"status": decided.status})


class WithdrawView(ApiView):
    """Takes back the caller's approval while more approvals are needed."""

    @extend_schema(request=None, responses={200: DecidedShape, **_ERRORS})
    def post(self, request: Request, job: str, step: str) -> Response:
        row = _request(request, job, step, "withdraw")
        decided = services.withdraw(row.pk, _caller(request))
        return answer(DecidedShape, {"status": decided.status})


class DelegateView(ApiView):
    @extend_schema(
        request=DelegateRequest, responses={200: DecidedShape, 400: ErrorShape, **_ERRORS}
    )
    def post(self, request: Request, job: str, step: str) -> Response:
        row = _request(request, job, step, "delegate")
        to = checked(DelegateRequest, request)["to"]
        if to is None:
            delegations.take_back(row.pk, _caller(request))
        else:
            delegations.delegate(row.pk, _caller(request), to)
        return answer(DecidedShape, {"status": StepStatus.SUSPENDED})


class LinkView(ApiView):
    """A single-use link that leads one person to the page of the request. It decides nothing."""

    @extend_schema(request=LinkRequest, responses={200: LinkShape, 400: ErrorShape, **_ERRORS})
    def post(self, request: Request, job: str, step: str) -> Response:
        row = _request(request, job, step)
        user = checked(LinkRequest, request).get("user") or ""
        return answer(LinkShape, {"url": links.link_for(row, _caller(request), user)})


def _request(request: Request, job: str, step: str, what: str = "") -> ApprovalRequest:
    """The request at this address. An attempt (`what`) by a user who must not see the job is
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
    return Caller(signed_in(request.user), "api", str(request.META.get("REMOTE_ADDR", "")))
