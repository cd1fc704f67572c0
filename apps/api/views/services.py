"""Service accounts and their keys. For administrators; no key makes another one."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts import people, tokens
from apps.api import scope
from apps.api.authentication import IsAdministrator, IsPerson
from apps.api.paging import window
from apps.api.shapes.accounts import (
    KeyRequest,
    KeyShape,
    NewKeyShape,
    RotateRequest,
    ServicePage,
    ServiceRequest,
    ServiceShape,
)
from apps.api.shapes.base import ErrorShape, StatusShape, answer, answer_list, checked
from apps.api.views.auth import new_key, rotated_key
from apps.api.views.base import PAGE, ApiView


class ServiceView(ApiView):
    permission_classes = (IsAuthenticated, IsAdministrator, IsPerson)


class ServicesView(ServiceView):
    query = PAGE

    @extend_schema(
        operation_id="service_accounts_list",
        parameters=[OpenApiParameter("limit", int), OpenApiParameter("offset", int)],
        responses={200: ServicePage, 400: ErrorShape},
    )
    def get(self, request: Request) -> Response:
        rows = scope.service_accounts()
        page = rows.prefetch_related("groups")[window(request)]
        return answer(ServicePage, {"items": page, "total": rows.count()})

    @extend_schema(request=ServiceRequest, responses={200: ServiceShape, 409: ErrorShape})
    def post(self, request: Request) -> Response:
        given = checked(ServiceRequest, request)
        return answer(ServiceShape, people.add_service(given["name"], given.get("groups") or ()))


class OneServiceView(ServiceView):
    @extend_schema(responses={200: StatusShape, 404: ErrorShape})
    def delete(self, request: Request, service: str) -> Response:
        """With its keys and grants, at once."""
        people.remove_service(scope.service_account(service))
        return answer(StatusShape, {"status": "ok"})


class ServiceKeysView(ServiceView):
    @extend_schema(responses={200: KeyShape(many=True), 404: ErrorShape})
    def get(self, request: Request, service: str) -> Response:
        return answer_list(KeyShape, scope.api_keys(scope.service_account(service)))

    @extend_schema(
        request=KeyRequest, responses={200: NewKeyShape, 404: ErrorShape, 429: ErrorShape}
    )
    def post(self, request: Request, service: str) -> Response:
        return new_key(request, scope.service_account(service))


class ServiceKeyView(ServiceView):
    @extend_schema(responses={200: StatusShape, 404: ErrorShape})
    def delete(self, request: Request, service: str, prefix: str) -> Response:
        tokens.revoke_key(scope.api_key(scope.service_account(service), prefix))
        return answer(StatusShape, {"status": "ok"})


class ServiceKeyRotateView(ServiceView):
    @extend_schema(request=RotateRequest, responses={200: NewKeyShape, 404: ErrorShape})
    def post(self, request: Request, service: str, prefix: str) -> Response:
        return rotated_key(request, scope.api_key(scope.service_account(service), prefix))
