"""What can go wrong when somebody decides."""

from __future__ import annotations

from typing import ClassVar

from engine.errors import Fault, StroemError


class NotAllowed(StroemError):
    """The person sees the request, but may not do this. The API answers 403."""

    code: ClassVar[str] = "forbidden"
    fault: ClassVar[Fault] = "caller"


class LinkSpent(StroemError):
    """The link was used before, or its request is closed. Its page answers 410."""

    code: ClassVar[str] = "link"
    fault: ClassVar[Fault] = "caller"
