"""Asking again when a provider is busy: as often as it may, as late as it says, never beyond the
step's time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from engine.agents.dialogue import Answer, Question
from runners.agents.base import Model
from runners.agents.errors import ModelError, Stopped
from runners.agents.places import Places
from runners.base import StopSignal

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0


class Patience:
    """What all conversations with one provider share: its places, and when it wants to be left
    alone."""

    def __init__(
        self,
        *,
        retries: int,
        request_timeout_s: float,
        places: int | None = None,
        per_minute: int | None = None,
    ) -> None:
        self._retries = retries
        self._request_timeout_s = request_timeout_s
        self._places = Places(places, per_minute)
        self._quiet_until = 0.0

    def ask(
        self,
        model: Model,
        question: Question,
        stop: StopSignal,
        *,
        left_s: float | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> Answer:
        """The model's answer. Raises ModelError when it is final, or the time is over; Stopped."""
        ends_at = float("inf") if left_s is None else time.monotonic() + left_s
        tries = 0
        while True:
            self._keep_quiet(ends_at, stop, say)
            with self._places.held(stop, ends_at):
                timeout_s = min(self._request_timeout_s, ends_at - time.monotonic())
                if timeout_s <= 0:
                    raise ModelError("the step's time is over")
                try:
                    return model.ask(question, stop, timeout_s)
                except ModelError as error:
                    failure = error
            tries += 1
            if not failure.is_transient or tries > self._retries:
                raise _after(failure, tries)
            self._back_off(failure, tries, ends_at, stop, say)

    def _keep_quiet(self, ends_at: float, stop: StopSignal, say: Callable[[str], None]) -> None:
        """Leave the provider alone for as long as it told any of the conversations."""
        wait_s = self._quiet_until - time.monotonic()
        if wait_s <= 0:
            return
        told = f"the provider asked to be left alone for {wait_s:.1f} s more"
        if time.monotonic() + wait_s >= ends_at:
            raise ModelError(f"{told}, which would be after the step's time-out", is_transient=True)
        say(told)
        self._wait(wait_s, ends_at, stop)

    def _back_off(
        self,
        failure: ModelError,
        tries: int,
        ends_at: float,
        stop: StopSignal,
        say: Callable[[str], None],
    ) -> None:
        wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (tries - 1)) * random.uniform(0.8, 1.2)
        if failure.retry_after_s is not None:
            wait_s = failure.retry_after_s
            self._quiet_until = max(self._quiet_until, time.monotonic() + wait_s)
        if time.monotonic() + wait_s >= ends_at:
            raise ModelError(
                f"{failure}; another try in {wait_s:g} s would be after the step's time-out",
                is_transient=True,
            ) from failure
        say(f"{failure}; asking again in {wait_s:.1f} s ({tries} of {self._retries})")
        self._wait(wait_s, ends_at, stop)

    def _wait(self, wait_s: float, ends_at: float, stop: StopSignal) -> None:
        if wait_s > 0 and stop.wait(min(wait_s, max(0.0, ends_at - time.monotonic()))):
            raise Stopped


def _after(failure: ModelError, tries: int) -> ModelError:
    if tries == 1:
        return failure
    return ModelError(f"{failure} ({tries} tries)", is_transient=failure.is_transient)
