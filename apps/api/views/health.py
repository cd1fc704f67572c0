"""What monitoring reads: the health of the parts, and metrics. For administrators, and for whoever
sends the token of the settings."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import HttpResponse
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.authentication import SessionAuthentication
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api import metrics
from apps.api.authentication import BearerAuthentication, IsAdministrator, bearer_of
from apps.api.shapes.base import answer
from apps.api.shapes.health import HealthShape
from apps.api.views import public
from apps.api.views.base import ApiView
from apps.fleet import vitals

BROKER_S = 2
OK, DEGRADED, UNHEALTHY = "ok", "degraded", "unhealthy"
MONITORING = "monitoring"


class MonitoringAuthentication(BearerAuthentication):
    """The token of the settings, also while the database is away; else a user's."""

    def authenticate(self, request: Request) -> tuple[Any, str] | None:
        token = settings.STROEM.metrics.token
        given = bearer_of(request) or ""
        if token is not None and hmac.compare_digest(given.encode(), token.encode()):
            return AnonymousUser(), MONITORING
        return super().authenticate(request)


class MonitoringScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # the package's own hook
    target_class = MonitoringAuthentication
    name = "monitoring"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "The setting `metrics.token`, or a token or key of an administrator",
        }


class MayMonitor(IsAdministrator):
    def has_permission(self, request: Request, view: Any) -> bool:
        return request.auth == MONITORING or super().has_permission(request, view)


class MayScrape(MayMonitor):
    def has_permission(self, request: Request, view: Any) -> bool:
        return settings.STROEM.metrics.public or super().has_permission(request, view)


class Whatever(BaseContentNegotiation):
    """Scrapers ask for formats of their own and take any."""

    def select_parser(self, request: Request, parsers: Iterable[Any]) -> Any:
        return next(iter(parsers))

    def select_renderer(
        self, request: Request, renderers: Iterable[Any], format_suffix: str | None = None
    ) -> tuple[Any, str]:
        first = next(iter(renderers))
        return first, first.media_type


class MonitoringView(ApiView):
    authentication_classes = (MonitoringAuthentication, SessionAuthentication)
    permission_classes: Sequence[type[BasePermission]] = (MayMonitor,)
    content_negotiation_class = Whatever


class HealthView(MonitoringView):
    """503 without the database. `degraded`: steps run, but start later, or nothing recovers."""

    @extend_schema(responses={200: HealthShape, 503: HealthShape})
    def get(self, request: Request) -> Response:
        checks: dict[str, Any] = {"db": "ok" if public.database_answers() else "error"}
        if checks["db"] == "ok":
            checks |= _checks()
        status = _verdict(checks)
        found = answer(HealthShape, {"status": status, "checks": checks})
        found.status_code = 503 if status == UNHEALTHY else 200
        return found


class MetricsView(MonitoringView):
    """For Prometheus."""

    permission_classes = (MayScrape,)

    @extend_schema(responses={(200, "text/plain"): OpenApiTypes.STR})
    def get(self, request: Request) -> HttpResponse:
        return HttpResponse(metrics.page(), content_type=metrics.CONTENT_TYPE)


def _checks() -> dict[str, Any]:
    schedulers = vitals.schedulers().count()
    state = "ok" if schedulers else "stopped"
    return {
        "broker": "ok" if _broker_answers() else "error",
        "scheduler": state,
        "recovery": state,
        "schedulers": schedulers,
        "workers": vitals.alive().count(),
    }


def _verdict(checks: dict[str, Any]) -> str:
    if checks["db"] != "ok":
        return UNHEALTHY
    return OK if checks["broker"] == checks["scheduler"] == "ok" else DEGRADED


def _broker_answers() -> bool:
    from kombu import Connection
    from kombu.exceptions import KombuError

    try:
        with Connection(settings.BROKER_URL or "", connect_timeout=BROKER_S) as broker:
            broker.ensure_connection(max_retries=1, interval_start=0, timeout=BROKER_S)
    except (KombuError, OSError):
        return False
    return True
