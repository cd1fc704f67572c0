"""Errors of signing in."""

from __future__ import annotations

from engine.errors import StroemError


class SignInRefused(StroemError):
    """The text is the same for an unknown account, a wrong password and a disabled account."""


class TokenRefused(StroemError):
    """A token that is unknown, used up, expired or revoked."""


class SignInAgain(StroemError):
    """Who holds this session or token signed in too long ago for what they want to do."""


class TooMany(StroemError):
    """Try again after `retry_after_s` seconds."""

    def __init__(self, retry_after_s: int, text: str = "Too many requests") -> None:
        self.retry_after_s = retry_after_s
        super().__init__(text)
