"""What can go wrong between a question and its answer."""

from __future__ import annotations

from engine.errors import PlatformError


class ModelError(PlatformError):
    """The model gave no answer. `is_transient`: the same question may be answered later;
    `retry_after_s`: the provider says when."""

    def __init__(
        self, message: str, *, is_transient: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.is_transient = is_transient
        self.retry_after_s = retry_after_s


class Stopped(Exception):
    """The wait for an answer was ended by the stop signal."""
