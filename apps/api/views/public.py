"""Public routes: health and how to sign in."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooSlow
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.db import DatabaseError, connection
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.views.decorators.http import require_safe
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api.shapes.accounts import ConfigShape
from apps.api.shapes.base import answer
from apps.api.views.base import ApiView
from apps.signin.offered import named
from engine import VERSION
from engine.spec import json_schema

log = logging.getLogger("stroem.health")
_PING_S = 3.0
_pings = ThreadPoolExecutor(max_workers=2, thread_name_prefix="ping")


@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """200 if the database answers within 3 s, else 503."""
    if not database_answers():
        return JsonResponse({"status": "unhealthy", "db": "error"}, status=503)
    return JsonResponse({"status": "ok", "db": "ok"})


def database_answers() -> bool:
    """Within 3 s."""
    try:
        _pings.submit(_ping).result(timeout=_PING_S)
    except (DatabaseError, TooSlow) as error:
        why = str(error).strip() or f"no answer within {_PING_S:g} s"
        log.warning("the database does not answer: %s", why.splitlines()[0])
        return False
    return True


def _ping() -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        connection.close()


class ConfigView(ApiView):
    authentication_classes = ()
    permission_classes = (AllowAny,)

    @extend_schema(responses=ConfigShape)
    def get(self, request: Request) -> Response:
        return answer(
            ConfigShape,
            {
                "auth_required": True,
                "acl_enabled": True,
                "oidc_providers": [
                    {"id": name, "display_name": one.title} for name, one in named().items()
                ],
                "has_internal_auth": True,
                "version": VERSION,
            },
        )


class WorkflowSchemaView(ApiView):
    """The JSON Schema of workflow files, for editors, which do not sign in."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    @extend_schema(responses={(200, "application/json"): OpenApiTypes.OBJECT})
    def get(self, request: Request) -> Response:
        return Response(json_schema.build())


class DocsView(SpectacularSwaggerSplitView):
    """The description as a page of forms. People without a session sign in first."""

    permission_classes = (AllowAny,)
    http_method_names = ("get", "head")
    url = "/api/schema"

    def handle_exception(self, exc: Exception) -> HttpResponseBase:  # type: ignore[override]  # a page cannot show it
        found = super().handle_exception(exc)
        headers = {name: text for name, text in found.headers.items() if name != "Content-Type"}
        return JsonResponse(found.data, status=found.status_code, headers=headers)

    @extend_schema(exclude=True)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        found: Response = super().get(request, *args, **kwargs)  # type: ignore[no-untyped-call]  # the package's own
        return found


class SchemaView(SpectacularAPIView):
    """The OpenAPI description of this API, as JSON."""

    permission_classes = (IsAuthenticated,)
    renderer_classes = [JSONRenderer]
