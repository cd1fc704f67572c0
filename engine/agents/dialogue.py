"""A conversation with a model as its rows have it, and one question to the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.agents.limits import NOTHING, Spent
from engine.lifecycle import OPEN_CALL, CallStatus

Finish = Literal["stop", "length", "content_filter", "tool_call", "error", "other"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer. `cost` in US dollars; None if the price is not known."""

    tokens_in: int = 0
    tokens_out: int = 0
    cached: int = 0
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A tool call in an answer. `arguments` is a mapping, or the text that could not be read."""

    id: str
    tool: str
    arguments: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model answered. `message` is the library's own JSON of it, which is sent back with
    the next question."""

    text: str = field(repr=False)
    calls: tuple[Wanted, ...] = ()
    output: Any = field(repr=False, default=None)  # structured, if has_output
    has_output: bool = False
    finish: Finish = "stop"
    model: str = ""
    usage: Usage = Usage()
    latency_s: float = 0.0
    message: Any = field(repr=False, default=None)


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call as its row has it. `result` is what the model reads."""

    index: int
    id: str
    tool: str
    arguments: Any = field(repr=False)
    status: CallStatus = CallStatus.WANTED
    result: str = field(repr=False, default="")
    has_child: bool = False  # a job works for it

    @property
    def is_open(self) -> bool:
        return self.status in OPEN_CALL

    @property
    def is_lost(self) -> bool:
        """Begun by a process that is gone: between two moves, no call of a server is under way."""
        return self.status is CallStatus.BEGUN and not self.has_child


@dataclass(frozen=True, slots=True)
class Turn:
    """One question and its answer. `note`: what we said to the model before it; `is_last`: no
    tools may follow."""

    seq: int
    note: str = field(repr=False, default="")
    is_last: bool = False
    answer: Answer | None = None
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation. `stints`: how often a process has taken it up since its last new row;
    `raised`: how often people have allowed as much again; `no_more`: why they did not."""

    id: int
    name: str  # for the provider: unique, without meaning
    system: str = field(repr=False)
    prompt: str = field(repr=False)
    turns: tuple[Turn, ...] = ()
    spent: Spent = NOTHING
    stints: int = 1
    raised: int = 0
    no_more: str = ""

    @property
    def has_lost_calls(self) -> bool:
        return bool(self.turns) and any(call.is_lost for call in self.turns[-1].calls)


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the model sees it."""

    name: str
    description: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """One request to a model: the whole conversation so far."""

    key: str  # the same when the question is asked again
    dialogue: Dialogue
    note: str = field(repr=False, default="")  # of the turn that is asked
    tools: tuple[ToolSpec, ...] = ()
    schema: Mapping[str, Any] | None = None  # of a structured answer
    max_tokens: int | None = None
    temperature: float | None = None
