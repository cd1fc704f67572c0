"""What can go wrong with a server."""

from __future__ import annotations

from engine.errors import PlatformError


class ServerError(PlatformError):
    """The server cannot be used: it does not start, cannot be reached, or speaks nonsense."""
