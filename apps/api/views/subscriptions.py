"""Subscriptions of a workspace: who outside is told what. For its administrators."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.models import signed_in
from apps.api import scope
from apps.api.paging import window
from apps.api.shapes.base import ErrorShape, StatusShape, answer, answer_list, checked
from apps.api.shapes.subscriptions import (
    ChangeRequest,
    CreateRequest,
    DeliveryPage,
    DeliveryShape,
    NewSecretShape,
    SubscriptionShape,
)
from apps.api.views.base import PAGE, ApiView
from apps.subscriptions import services
from apps.subscriptions.services import Wanted


class SubscriptionsView(ApiView):
    @extend_schema(responses=SubscriptionShape(many=True))
    def get(self, request: Request, workspace: str) -> Response:
        row = scope.subscribable(request.user, workspace)
        return answer_list(SubscriptionShape, scope.subscriptions(row))

    @extend_schema(
        request=CreateRequest, responses={200: NewSecretShape, 404: ErrorShape, 409: ErrorShape}
    )
    def post(self, request: Request, workspace: str) -> Response:
        row = scope.subscribable(request.user, workspace)
        given = checked(CreateRequest, request)
        wanted = Wanted(given["url"], given["events"], given["with_output"])
        by = signed_in(request.user).email
        made, secret = services.create(row, given["name"], wanted, by=by)
        return answer(NewSecretShape, {"subscription": made, "secret": secret})


class SubscriptionView(ApiView):
    @extend_schema(responses={200: SubscriptionShape, 404: ErrorShape})
    def get(self, request: Request, workspace: str, subscription: str) -> Response:
        return answer(SubscriptionShape, scope.subscription(request.user, workspace, subscription))

    @extend_schema(request=ChangeRequest, responses={200: SubscriptionShape, 404: ErrorShape})
    def put(self, request: Request, workspace: str, subscription: str) -> Response:
        row = scope.subscription(request.user, workspace, subscription)
        given = checked(ChangeRequest, request)
        wanted = Wanted(given["url"], given["events"], given["with_output"])
        by = signed_in(request.user).email
        changed = services.change(row, wanted, is_paused=given["paused"], by=by)
        return answer(SubscriptionShape, changed)

    @extend_schema(responses={200: StatusShape, 404: ErrorShape})
    def delete(self, request: Request, workspace: str, subscription: str) -> Response:
        row = scope.subscription(request.user, workspace, subscription)
        services.remove(row, by=signed_in(request.user).email)
        return answer(StatusShape, {"status": "ok"})


class RotateView(ApiView):
    @extend_schema(request=None, responses={200: NewSecretShape, 404: ErrorShape})
    def post(self, request: Request, workspace: str, subscription: str) -> Response:
        row = scope.subscription(request.user, workspace, subscription)
        secret = services.rotate(row, by=signed_in(request.user).email)
        return answer(NewSecretShape, {"subscription": row, "secret": secret})


class PingView(ApiView):
    @extend_schema(request=None, responses={200: DeliveryShape, 404: ErrorShape, 409: ErrorShape})
    def post(self, request: Request, workspace: str, subscription: str) -> Response:
        row = scope.subscription(request.user, workspace, subscription)
        return answer(DeliveryShape, services.ping(row, by=signed_in(request.user).email))


class DeliveriesView(ApiView):
    query = PAGE

    @extend_schema(
        operation_id="subscription_deliveries_list",
        parameters=[OpenApiParameter("limit", int), OpenApiParameter("offset", int)],
        responses={200: DeliveryPage, 400: ErrorShape, 404: ErrorShape},
    )
    def get(self, request: Request, workspace: str, subscription: str) -> Response:
        row = scope.subscription(request.user, workspace, subscription)
        rows = row.deliveries.order_by("-id")
        return answer(DeliveryPage, {"items": rows[window(request)], "total": rows.count()})


class SendAgainView(ApiView):
    @extend_schema(request=None, responses={200: DeliveryShape, 404: ErrorShape, 409: ErrorShape})
    def post(self, request: Request, workspace: str, subscription: str, delivery: str) -> Response:
        row = scope.subscription(request.user, workspace, subscription)
        by = signed_in(request.user).email
        return answer(DeliveryShape, services.send_again(row, delivery, by=by))
