"""Errors of deciding."""

from __future__ import annotations

from engine.errors import StroemError


class NotAllowed(StroemError):
    """The user sees the request but may not do this. The API answers 403."""


class LinkSpent(StroemError):
    """The link has been used, or its request is closed. Its page answers 410."""
