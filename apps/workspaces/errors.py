"""Errors between a source and a revision."""

from __future__ import annotations

from engine.errors import AuthorError, PlatformError


class SourceError(AuthorError):
    """The folder or repository cannot be read or exceeds a limit. Never contains a credential."""


class SecretError(AuthorError):
    """A secret cannot be resolved. Names the secret, never its value."""


class SealError(PlatformError):
    """Stored bytes cannot be decrypted with the keys of this server."""
