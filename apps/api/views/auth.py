"""Signing in and out, API keys, and agents that were let in."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import ParseError
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts import connected, services, tokens
from apps.accounts.errors import TokenRefused
from apps.accounts.key_scopes import EVERYTHING
from apps.accounts.models import ApiToken, User, signed_in
from apps.accounts.throttles import address_range, spend, throttle_key
from apps.api import scope
from apps.api.authentication import IsPerson, bearer_of, insist_on_fresh
from apps.api.shapes.accounts import (
    ConnectedAgentShape,
    KeyRequest,
    KeyShape,
    LoginRequest,
    MeShape,
    NewKeyShape,
    RefreshRequest,
    RotateRequest,
    TokenShape,
)
from apps.api.shapes.base import ErrorShape, StatusShape, answer, answer_list, checked
from apps.api.views.base import ApiView
from apps.signin import passwords
from engine.errors import NotFound

COOKIE = "stroem_refresh"
COOKIE_PATH = "/api/auth"
REFUSALS_A_MINUTE, KEY_CALLS_A_MINUTE = 45, 120


def address_of(request: Request) -> str:
    """Of the socket, or what a trusted proxy says; headers of callers do not count."""
    return str(request.META.get("REMOTE_ADDR", ""))


class LoginView(ApiView):
    authentication_classes = ()
    permission_classes = (AllowAny,)

    @extend_schema(
        request=LoginRequest, responses={200: TokenShape, 401: ErrorShape, 429: ErrorShape}
    )
    def post(self, request: Request) -> Response:
        values = checked(LoginRequest, request)
        code, place = values.get("code", ""), address_of(request)
        user = passwords.sign_in(values["email"], values["password"], code, place)
        services.note_sign_in(user)
        return _signed_in(tokens.begin_chain(user, timezone.now()))


class RefreshView(ApiView):
    authentication_classes = ()
    permission_classes = (AllowAny,)

    @extend_schema(
        request=RefreshRequest, responses={200: TokenShape, 401: ErrorShape, 429: ErrorShape}
    )
    def post(self, request: Request) -> Response:
        token = _refresh_token(request)
        if not token:
            raise TokenRefused("No refresh token provided")
        try:
            return _signed_in(tokens.rotate(token, timezone.now()))
        except TokenRefused:
            place = throttle_key("refresh", address_range(address_of(request)))
            spend(place, limit=REFUSALS_A_MINUTE, window_s=60)
            raise


class LogoutView(ApiView):
    authentication_classes = ()
    permission_classes = (AllowAny,)

    @extend_schema(request=RefreshRequest, responses=StatusShape)
    def post(self, request: Request) -> Response:
        token = _refresh_token(request)
        if token:
            tokens.end_chain(token)
        if access := bearer_of(request):
            tokens.end_chain_of_access(access)
        done = answer(StatusShape, {"status": "ok"})
        done.delete_cookie(COOKIE, path=COOKIE_PATH, samesite="Strict")
        return done


class MeView(ApiView):
    @extend_schema(responses=MeShape)
    def get(self, request: Request) -> Response:
        return answer(MeShape, signed_in(request.user))


class KeysView(ApiView):
    permission_classes = (IsAuthenticated, IsPerson)

    @extend_schema(responses=KeyShape(many=True))
    def get(self, request: Request) -> Response:
        return answer_list(KeyShape, scope.api_keys(request.user))

    @extend_schema(request=KeyRequest, responses={200: NewKeyShape, 429: ErrorShape})
    def post(self, request: Request) -> Response:
        return new_key(request, signed_in(request.user))


class KeyView(ApiView):
    permission_classes = (IsAuthenticated, IsPerson)

    @extend_schema(responses={200: StatusShape, 404: ErrorShape})
    def delete(self, request: Request, prefix: str) -> Response:
        tokens.revoke_key(scope.api_key(signed_in(request.user), prefix))
        return answer(StatusShape, {"status": "ok"})


class KeyRotateView(ApiView):
    """A new secret, shown once; the old one stays good for the time of overlap."""

    permission_classes = (IsAuthenticated, IsPerson)

    @extend_schema(request=RotateRequest, responses={200: NewKeyShape, 404: ErrorShape})
    def post(self, request: Request, prefix: str) -> Response:
        return rotated_key(request, scope.api_key(signed_in(request.user), prefix))


class AgentsView(ApiView):
    """What the caller has let in at /mcp."""

    permission_classes = (IsAuthenticated, IsPerson)

    @extend_schema(responses=ConnectedAgentShape(many=True))
    def get(self, request: Request) -> Response:
        return answer_list(ConnectedAgentShape, scope.connected_agents(request.user))


class AgentView(ApiView):
    permission_classes = (IsAuthenticated, IsPerson)

    @extend_schema(responses={200: StatusShape, 404: ErrorShape})
    def delete(self, request: Request, agent: str) -> Response:
        known = {str(row.pk): row for row in scope.connected_agents(request.user)}
        if agent not in known:
            raise NotFound("Connected agent not found")
        connected.revoke(known[agent])
        return answer(StatusShape, {"status": "ok"})


def new_key(request: Request, user: User) -> Response:
    """What the request asks for, for this user."""
    insist_on_fresh(request, timezone.now())
    spend(throttle_key("keys", str(request.user.pk)), limit=KEY_CALLS_A_MINUTE, window_s=60)
    given = checked(KeyRequest, request)
    days = given.get("expires_in_days")
    if days is not None and days <= 0:
        raise ParseError("expires_in_days must be positive")
    key, row = tokens.make_key(
        user,
        given["name"],
        tokens.expiry_after(days, timezone.now()),
        scopes=given.get("scopes", EVERYTHING),
        workspaces=given.get("workspaces", ()),
    )
    return answer(NewKeyShape, {"key": key, "row": row})


def rotated_key(request: Request, row: ApiToken) -> Response:
    insist_on_fresh(request, timezone.now())
    overlap = timedelta(hours=checked(RotateRequest, request)["overlap_hours"])
    key = tokens.rotate_key(row, overlap, timezone.now())
    return answer(NewKeyShape, {"key": key, "row": row})


def _refresh_token(request: Request) -> str:
    given = RefreshRequest(data=request.data or {})
    given.is_valid(raise_exception=True)
    return request.COOKIES.get(COOKIE) or given.validated_data.get("refresh_token", "")


def _signed_in(pair: tokens.Pair) -> Response:
    signed_in = answer(TokenShape, {"access_token": pair.access})
    signed_in.set_cookie(
        COOKIE,
        pair.refresh,
        max_age=tokens.REFRESH_S,
        path=COOKIE_PATH,
        httponly=True,
        samesite="Strict",
        secure=settings.IS_HTTPS,
    )
    return signed_in
