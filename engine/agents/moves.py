"""What happens next in a conversation: decided from its rows alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.agents import schema
from engine.agents.dialogue import Answer, Dialogue, Turn
from engine.agents.limits import Limits, reached
from engine.errors import AuthorError
from engine.lifecycle import TO_MAKE, CallStatus
from engine.spec.model import OutputField

MOST_STINTS = 5  # without a new row, before the conversation counts as poison
MOST_PROBLEMS = 10  # shown to the model
REPAIR = "Your answer cannot be used: "
LAST_WORD = (
    "You have reached the limit of this conversation: {why}. Give your final answer now, from what"
    " you know. You cannot call tools any more."
)


@dataclass(frozen=True, slots=True)
class Rules:
    """What the step's author and the installation allow; `more`: if people raise the author's
    limits."""

    limits: Limits
    outputs: Mapping[str, OutputField] = field(default_factory=dict)
    more: Limits | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the model; `note` is said to it first."""

    seq: int
    note: str = ""
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class Act:
    """Make the tool calls that the last answer wants."""

    seq: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Tool calls are under way elsewhere."""


@dataclass(frozen=True, slots=True)
class AskForMore:
    """A limit is reached, and people may raise it."""

    why: str


@dataclass(frozen=True, slots=True)
class Finish:
    output: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Fail:
    error: str
    may_retry: bool = True


Move = Ask | Act | Wait | AskForMore | Finish | Fail


def next_move(dialogue: Dialogue, rules: Rules) -> Move:
    """What to do now."""
    if dialogue.stints > MOST_STINTS:
        return Fail(
            f"The process for agents died {MOST_STINTS} times at the same point of this"
            " conversation; its log says more"
        )
    last = dialogue.turns[-1] if dialogue.turns else None
    if last is None:
        return _ask(dialogue, rules, "")
    if last.answer is None:
        return Ask(last.seq, last.note, last.is_last)  # the answer was lost, or never came
    if last.answer.has_output or not last.calls:
        return _judge(dialogue, rules, last, last.answer)
    if any(call.is_lost for call in last.calls):
        return Act(last.seq)
    if any(call.status is CallStatus.ASKED for call in last.calls):
        return Wait()  # one question at a time: the other calls come after it
    if any(call.status in TO_MAKE for call in last.calls):
        return _refuse_cut(last.answer) or Act(last.seq)
    if any(call.is_open for call in last.calls):
        return Wait()
    return _ask(dialogue, rules, "")


def _ask(dialogue: Dialogue, rules: Rules, note: str) -> Move:
    """The next question, if the limits allow one."""
    seq = len(dialogue.turns) + 1
    why = reached(rules.limits, dialogue.spent)
    if why is None:
        return Ask(seq, note)
    if rules.limits.at_limit == "ask" and not dialogue.no_more and _helps(rules.more, dialogue):
        return AskForMore(why)
    if rules.limits.at_limit == "finish" and dialogue.turns and not dialogue.turns[-1].is_last:
        return Ask(seq, LAST_WORD.format(why=why), is_last=True)
    so = f". {dialogue.no_more}" if dialogue.no_more else ""
    return Fail(f"The agent has reached a limit: {why}{so}", may_retry=False)


def _helps(more: Limits | None, dialogue: Dialogue) -> bool:
    """Whether the agent could go on with larger limits: those of the installation stay."""
    return more is not None and reached(more, dialogue.spent) is None


def _judge(dialogue: Dialogue, rules: Rules, turn: Turn, answer: Answer) -> Move:
    """Whether an answer without tool calls ends the conversation."""
    cut = _refuse_cut(answer)
    if cut is not None:
        return cut
    if not rules.outputs:
        if answer.text.strip():
            return Finish({"text": answer.text})
        wrong = ["the answer is empty"]
    else:
        try:
            found = answer.output if answer.has_output else read_object(answer.text)
        except AuthorError as error:
            wrong = [str(error)]
        else:
            wrong = schema.misfits(found, rules.outputs)
            if not wrong:
                return Finish(schema.completed(found, rules.outputs))
    return _repair(dialogue, rules, turn, wrong)


def _repair(dialogue: Dialogue, rules: Rules, turn: Turn, wrong: list[str]) -> Move:
    """One more round in which the model may correct its answer."""
    shown = "; ".join(wrong[:MOST_PROBLEMS])
    if turn.is_last or any(one.note.startswith(REPAIR) for one in dialogue.turns):
        return Fail(f"The model's answer does not fit: {shown} (it was asked to correct it once)")
    return _ask(dialogue, rules, f"{REPAIR}{shown}. Answer again, completely and correctly.")


def _refuse_cut(answer: Answer) -> Fail | None:
    match answer.finish:
        case "length":
            return Fail(
                "The model's answer was cut off at its greatest length: raise max_tokens, or ask"
                " for less"
            )
        case "content_filter":
            return Fail("The provider's content filter withheld the model's answer")
        case "error":
            return Fail("The provider reports that the model failed in the middle of its answer")
    return None


def read_object(text: str) -> Any:
    """The JSON object in an answer, perhaps in a fence. Raises AuthorError."""
    bare = text.strip()
    if bare.startswith("```") and bare.endswith("```"):
        bare = bare.strip("`").removeprefix("json").strip()
    try:
        return json.loads(bare)
    except ValueError as error:
        raise AuthorError(f"the answer must be one JSON object ({error})") from None
