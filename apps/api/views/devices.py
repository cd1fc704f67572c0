"""Signing in a program without a browser: it asks for a code and then, again and again, for the
key that it gets once a person has confirmed the code."""

from __future__ import annotations

from django.conf import settings
from django.urls import reverse
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts import devices
from apps.accounts.devices import Waiting
from apps.accounts.key_scopes import EVERYTHING
from apps.accounts.throttles import address_range, spend, throttle_key
from apps.api.shapes.base import ErrorShape, answer, checked
from apps.api.shapes.devices import DeviceRequest, DeviceShape, DeviceTokenRequest, DeviceTokenShape
from apps.api.views.auth import address_of
from apps.api.views.base import ApiView

STARTS, IN_STARTS_S = 30, 3600  # of one address
MOST_STARTS = 1000  # of all together
POLLS, IN_POLLS_S = 120, 60  # of one address
SENTENCES = {
    Waiting.PENDING: "Nobody has confirmed the code yet",
    Waiting.SLOW_DOWN: "Asked too soon: wait 5 seconds between two requests",
    Waiting.DENIED: "The code was not confirmed",
    Waiting.EXPIRED: "The code is over: ask for a new one",
}


class DeviceView(ApiView):
    authentication_classes = ()
    permission_classes = (AllowAny,)

    @extend_schema(request=DeviceRequest, responses={200: DeviceShape, 429: ErrorShape})
    def post(self, request: Request) -> Response:
        given = checked(DeviceRequest, request)
        address = address_of(request)
        key = throttle_key("device", address_range(address))
        spend(key, limit=STARTS, window_s=IN_STARTS_S)
        spend("device-starts", limit=MOST_STARTS, window_s=IN_STARTS_S)
        scopes = given.get("scopes", EVERYTHING)
        asked = devices.ask(given.get("client_name", ""), address, scopes, timezone.now())
        page = f"{settings.BASE_URL}{reverse('device')}"
        said = {
            "device_code": asked.secret,
            "user_code": asked.code,
            "verification_uri": page,
            "verification_uri_complete": f"{page}?code={asked.code}",
            "expires_in": int(devices.LASTS.total_seconds()),
            "interval": int(devices.INTERVAL.total_seconds()),
        }
        return answer(DeviceShape, said)


class DeviceTokenView(ApiView):
    """400 with the `code` authorization_pending, slow_down, access_denied or expired_token while
    there is no key."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    @extend_schema(request=DeviceTokenRequest, responses={200: DeviceTokenShape, 429: ErrorShape})
    def post(self, request: Request) -> Response:
        given = checked(DeviceTokenRequest, request)
        key = throttle_key("device-token", address_range(address_of(request)))
        spend(key, limit=POLLS, window_s=IN_POLLS_S)
        found = devices.exchange(given["device_code"], timezone.now())
        if isinstance(found, Waiting):
            return Response({"error": SENTENCES[found], "code": found.value}, 400)
        lasts = devices.KEY_DAYS * 24 * 3600
        said = {"access_token": found[0], "token_type": "Bearer", "expires_in": lasts}
        return answer(DeviceTokenShape, said)
