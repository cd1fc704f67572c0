"""Errors between a source and a revision."""

from __future__ import annotations

from engine.errors import AuthorError, PlatformError

LIMIT = "limit"  # the code of problems that a limit caused


class SourceError(AuthorError):
    """The folder or repository cannot be read or exceeds a limit. Never contains a credential."""


class LimitError(SourceError):
    """The source exceeds a limit. Read again and again, it would take the time of the others."""


class NotExported(AuthorError):
    """The files of another workspace do not let this one use an action."""


class SecretError(AuthorError):
    """A secret cannot be resolved. Names the secret, never its value."""


class SlowSecretError(SecretError):
    """The store of secrets did not answer in time."""


class SecretsPending(PlatformError):
    """A store of secrets has not answered yet, and this caller must not wait. Never the end of a
    step or hook: the transaction is given up, and its owner comes back."""


class SealError(PlatformError):
    """Stored bytes cannot be decrypted with the keys of this server."""
