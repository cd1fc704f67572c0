"""What can go wrong when somebody decides."""

from __future__ import annotations

from engine.errors import StroemError


class NotAllowed(StroemError):
    """The person sees the request, but may not do this. The API answers 403."""


class LinkSpent(StroemError):
    """The link was used before, or its request is closed. Its page answers 410."""
