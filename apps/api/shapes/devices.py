"""Signing in a program without a browser: the fields of RFC 8628."""

from __future__ import annotations

from rest_framework import serializers

from apps.api.shapes.accounts import scope_field
from apps.api.shapes.base import Asked, Shape, Values


class DeviceRequest(Asked):
    client_name = serializers.CharField(
        max_length=150, required=False, allow_blank=True, help_text="What the person is shown"
    )
    scopes = serializers.ListField(
        child=scope_field(),
        required=False,
        max_length=10,
        help_text="Of the key; `admin` if they are left out",
    )


class DeviceShape(Shape[Values]):
    device_code = serializers.CharField(help_text="For the program alone")
    user_code = serializers.CharField(help_text="For the person to type")
    verification_uri = serializers.CharField(help_text="The page that asks for the code")
    verification_uri_complete = serializers.CharField(help_text="The same with the code")
    expires_in = serializers.IntegerField(help_text="Seconds")
    interval = serializers.IntegerField(help_text="Seconds between two requests for the key")


class DeviceTokenRequest(Asked):
    device_code = serializers.CharField(max_length=200)


class DeviceTokenShape(Shape[Values]):
    access_token = serializers.CharField(help_text="An API key, given out once")
    token_type = serializers.CharField()
    expires_in = serializers.IntegerField(help_text="Seconds")
