"""What can go wrong between this program and a server, each one sentence."""

from __future__ import annotations

from engine.errors import PlatformError, StroemError


class Unreachable(PlatformError):
    """No connection, a certificate that does not fit, or no answer in time."""


class Unavailable(PlatformError):
    """The server answers that it cannot serve this now."""


class NotSignedIn(StroemError):
    """No key, or one that is no longer valid."""


class NotYet(StroemError):
    """Nobody has confirmed the code of this sign-in so far."""


class Refused(StroemError):
    """The key's owner may not do this."""


class BadProfile(StroemError):
    """The file of profiles, or what was chosen from it, cannot be used."""
