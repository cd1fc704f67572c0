"""JSON of long lists, rendered batch by batch to limit memory use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rest_framework.renderers import JSONRenderer


class StepsRenderer(JSONRenderer):
    """Joins `steps`, an iterator of lists, into one list. Renders other answers as usual."""

    def render(self, data: Any, *args: Any, **kwargs: Any) -> bytes:
        steps = data.get("steps") if isinstance(data, Mapping) else None
        if not isinstance(steps, Iterator):
            return bytes(super().render(data, *args, **kwargs))
        rest = {key: value for key, value in data.items() if key != "steps"}
        parts = [super().render(rest, *args, **kwargs)[:-1], b',"steps":[']
        for number, batch in enumerate(steps):
            parts += [b"," if number else b"", super().render(batch, *args, **kwargs)[1:-1]]
        return b"".join((*parts, b"]}"))
