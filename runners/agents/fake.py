"""A provider whose answers stand in a file, for examples and tests: no network, no cost.

    answers:
      - when: "invoice"         # optional: a pattern that the prompt or the last result contains
        output: {queue: billing}
      - call: {tool: strom_task_look_up, arguments: {id: 7}}
      - text: "It is done."
      - error: "the service is away"

The n-th question of a conversation gets the n-th answer of those that fit it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.agents.dialogue import Answer, Question, Usage, Wanted
from engine.errors import PlatformError
from engine.spec.reader import read
from runners.agents.errors import ModelError
from runners.base import StopSignal

KEYS = frozenset({"when", "output", "text", "call", "calls", "error", "finish"})


@dataclass(frozen=True, slots=True)
class FakeModel:
    """Answers from a file, the same each time."""

    name: str
    answers: tuple[Mapping[str, Any], ...]

    def ask(self, question: Question, stop: StopSignal, timeout_s: float) -> Answer:
        asked = [turn for turn in question.dialogue.turns if turn.answer is not None]
        number = len(asked)
        text = f"{question.dialogue.system}\n{question.dialogue.prompt}"
        fitting = [one for one in self.answers if re.search(str(one.get("when", "")), text)]
        if number >= len(fitting):
            raise ModelError(
                f"the file of answers has {len(fitting)} for this prompt, and this is question"
                f" {number + 1}"
            )
        return _answer(fitting[number], question)


def _answer(given: Mapping[str, Any], question: Question) -> Answer:
    if "error" in given:
        raise ModelError(str(given["error"]))
    wanted = given.get("calls") or ([given["call"]] if "call" in given else [])
    calls = tuple(
        Wanted(f"call_{len(question.dialogue.turns)}_{index}", call["tool"], call.get("arguments"))
        for index, call in enumerate(wanted)
    )
    output = given.get("output")
    text = str(given.get("text", "" if output is None else json.dumps(output)))
    return Answer(
        text=text,
        calls=calls,
        output=output,
        has_output=output is not None,
        finish=given.get("finish", "tool_call" if calls else "stop"),
        model="fake",
        usage=Usage(_size(question.dialogue.prompt), _size(text), cost=0.0),
    )


def _size(text: str) -> int:
    """About as many tokens as a model would count."""
    return len(text) // 4 + 1


def load(name: str, path: Path) -> FakeModel:
    """The model of a file. Raises PlatformError with the place of a mistake."""
    try:
        document = read(str(path), path.read_bytes())
    except OSError as error:
        raise PlatformError(
            f"the answers of provider '{name}' cannot be read: {path}: {error.strerror}"
        ) from None
    if document.root is None or document.problems:
        told = "; ".join(f"{one.place}: {one.message}" for one in document.problems)
        raise PlatformError(f"the answers of provider '{name}' cannot be read: {told or path}")
    content = document.root.plain()
    answers = content.get("answers") if isinstance(content, dict) else None
    if not isinstance(answers, Sequence) or not all(_is_answer(one) for one in answers):
        raise PlatformError(
            f"{path} must hold `answers`, a list of mappings with {', '.join(sorted(KEYS))}"
        )
    return FakeModel(name, tuple(answers))


def _is_answer(given: Any) -> bool:
    return isinstance(given, dict) and bool(given) and given.keys() <= KEYS
