"""What every model offers."""

from __future__ import annotations

from typing import Protocol

from engine.agents.dialogue import Answer, Question
from runners.base import StopSignal


class Model(Protocol):
    """One model of one provider. Thread-safe."""

    @property
    def name(self) -> str: ...

    def ask(self, question: Question, stop: StopSignal, timeout_s: float) -> Answer:
        """One request, one answer. Raises ModelError, or Stopped when `stop` was set."""
