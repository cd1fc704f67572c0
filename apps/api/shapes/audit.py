"""Entries of the audit log."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.api.shapes.base import Shape, Values


class EntryShape(Shape[dict[str, Any]]):
    id = serializers.IntegerField()
    at = serializers.CharField(help_text="UTC")
    who = serializers.CharField(help_text="E-mail; empty if nobody is known")
    what = serializers.CharField(help_text="Kind of object and verb: secret.set")
    object = serializers.CharField(help_text="Its name or id")
    workspace = serializers.CharField()
    via = serializers.ChoiceField(choices=("page", "api", "mcp", "command", "server"))
    address = serializers.CharField(help_text="Of the caller; of a command, the local user")
    key = serializers.CharField(help_text="First letters of the API key, if there was one")
    changes = serializers.DictField(
        child=serializers.DictField(),
        help_text="By field: `before` and `after`; of a secret only `changed`",
    )
    detail = serializers.CharField()


class EntryPage(Shape[Values]):
    items = EntryShape(many=True)
    next = serializers.CharField(
        allow_null=True, help_text="Send it as `cursor` to get the entries before these"
    )
