"""Triggers: what fires when, what became of it, pausing and firing by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.models import signed_in
from apps.api import scope
from apps.api.paging import window
from apps.api.shapes.base import ErrorShape, answer, answer_list
from apps.api.shapes.triggers import (
    DealtShape,
    FiringShape,
    TriggerDetailShape,
    TriggerHistory,
    TriggerPage,
    TriggerStateShape,
)
from apps.api.views.base import PAGE, WORKSPACE, ApiView
from apps.triggers import services
from apps.triggers.models import Firing, Trigger
from apps.triggers.snapshots import veiled, veiled_trigger, with_sources
from apps.workspaces.rights import sight_of
from engine.lifecycle import FiringStatus
from engine.rights import Right

SHOWN = 50
_PAGE = [OpenApiParameter("limit", int), OpenApiParameter("offset", int)]


class AllTriggersView(ApiView):
    query = {**WORKSPACE, **PAGE}

    @extend_schema(
        operation_id="triggers_list",
        parameters=[OpenApiParameter("workspace", str), *_PAGE],
        responses={200: TriggerPage, 400: ErrorShape, 404: ErrorShape},
    )
    def get(self, request: Request) -> Response:
        rows, sight = scope.triggers(request.user), sight_of(request.user)
        if name := request.query_params.get("workspace"):
            rows = rows.filter(workspace=scope.workspace(request.user, name))
        shown = [
            veiled_trigger(row, sight.on(row.workspace.name, row.task))
            for row in with_sources(rows[window(request)])
        ]
        return answer(TriggerPage, {"items": shown, "total": rows.count()})


class TriggersView(ApiView):
    @extend_schema(responses=TriggerStateShape(many=True))
    def get(self, request: Request, workspace: str) -> Response:
        row = scope.workspace(request.user, workspace)
        rows = scope.triggers(request.user).filter(workspace=row, is_listed=True)
        sight = sight_of(request.user)
        shown = [veiled_trigger(one, sight.on(row.name, one.task)) for one in with_sources(rows)]
        return answer_list(TriggerStateShape, shown)


class TriggerView(ApiView):
    @extend_schema(responses={200: TriggerDetailShape, 404: ErrorShape})
    def get(self, request: Request, workspace: str, trigger: str) -> Response:
        row = scope.trigger(request.user, workspace, trigger)
        with_sources([row])
        rights = sight_of(request.user).on(workspace, row.task)
        firings = Firing.objects.filter(trigger=row).defer("sealed").order_by("-created_at", "-id")
        dead = firings.filter(status=FiringStatus.DEAD)
        history = TriggerHistory(
            veiled_trigger(row, rights),
            veiled(list(firings[:SHOWN]), rights),
            veiled(list(dead[:SHOWN]), rights),
        )
        return answer(TriggerDetailShape, history)


class SwitchView(ApiView):
    switch: ClassVar[Callable[..., Trigger]]

    @extend_schema(request=None, responses={200: TriggerStateShape, 404: ErrorShape})
    def post(self, request: Request, workspace: str, trigger: str) -> Response:
        row = scope.trigger(request.user, workspace, trigger, Right.RUN)
        (found,) = with_sources([self.switch(row.pk, by=signed_in(request.user).email)])
        return answer(TriggerStateShape, found)


class PauseView(SwitchView):
    switch = staticmethod(services.pause)


class ResumeView(SwitchView):
    switch = staticmethod(services.resume)


class FireView(ApiView):
    @extend_schema(request=None, responses={200: FiringShape, 404: ErrorShape, 409: ErrorShape})
    def post(self, request: Request, workspace: str, trigger: str) -> Response:
        row = scope.trigger(request.user, workspace, trigger, Right.RUN)
        user = signed_in(request.user)
        return answer(FiringShape, services.fire_by_hand(row.pk, user=user, by=user.email))


class DeadLetterView(ApiView):
    what: str

    @extend_schema(request=None, responses={200: DealtShape, 404: ErrorShape, 409: ErrorShape})
    def post(self, request: Request, workspace: str, trigger: str, letter: str) -> Response:
        row = scope.trigger(request.user, workspace, trigger, Right.RUN)
        by = signed_in(request.user).email
        return answer(DealtShape, {"items": services.deal_with(row.pk, letter, self.what, by=by)})


class SendAgainView(DeadLetterView):
    what = "send-again"


class DiscardView(DeadLetterView):
    what = "discard"
