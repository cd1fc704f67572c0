"""What can go wrong at the door."""

from __future__ import annotations

from typing import ClassVar

from engine.errors import Fault, StroemError


class SignInRefused(StroemError):
    """The text is the same for an unknown account, a wrong password and a disabled account."""

    code: ClassVar[str] = "sign_in"
    fault: ClassVar[Fault] = "caller"


class TokenRefused(StroemError):
    """A token that is unknown, used up, expired or revoked."""

    code: ClassVar[str] = "token"
    fault: ClassVar[Fault] = "caller"


class TooMany(StroemError):
    """Try again after `retry_after_s` seconds."""

    code: ClassVar[str] = "too_many"
    fault: ClassVar[Fault] = "caller"

    def __init__(self, retry_after_s: int, text: str = "Too many requests") -> None:
        self.retry_after_s = retry_after_s
        super().__init__(text)
