"""Lines found in a log."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.api.shapes.base import Shape, Values
from apps.jobs.log.search import LONGEST_LINE, Stop


class LogHitShape(Shape[Any]):
    ts = serializers.CharField()
    stream = serializers.CharField()
    step = serializers.CharField()
    line = serializers.CharField(help_text=f"At most {LONGEST_LINE} characters, around the text")
    is_cut = serializers.BooleanField(help_text="Whether the line is longer")
    after = serializers.CharField(
        help_text="Send it as `after` to `/logs` to read on from just before this line"
    )


class LogSearchShape(Shape[Values]):
    items = LogHitShape(many=True)
    next = serializers.CharField(help_text="Send it as `after` to search on")
    stopped = serializers.ChoiceField(
        choices=[stop.value for stop in Stop],
        help_text="Where the search stopped: at the `end` of the log so far, at the `limit`, or"
        " after as many lines as one call reads (`scanned`)",
    )
