"""What can go wrong between a source and a revision."""

from __future__ import annotations

from engine.errors import AuthorError, PlatformError


class SourceError(AuthorError):
    """The folder or repository cannot be read, or breaks a limit. Never holds a credential."""


class SecretError(AuthorError):
    """A secret cannot be resolved. Names the secret, never its value."""


class SealError(PlatformError):
    """Stored bytes cannot be opened with the keys of this server."""
