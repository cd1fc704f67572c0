"""What happens next in a conversation, from its rows alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.agents.dialogue import Answer, Call, Dialogue, Turn, Usage, Wanted
from engine.agents.limits import Limits, Spent, calls_left, of_action, raised, reached, tightest
from engine.agents.moves import REPAIR, Act, Ask, AskForMore, Fail, Finish, Rules, Wait, next_move
from engine.lifecycle import CallStatus
from engine.spec.model import OutputField

FREE = Rules(Limits(turns=25))
TYPED = Rules(Limits(turns=25), {"n": OutputField("integer", required=True)})


def said(text: str = "hello", **more: Any) -> Answer:
    return Answer(text, usage=Usage(10, 5, cost=0.1), **more)


def talk(*turns: Turn, **more: Any) -> Dialogue:
    spent = Spent(turns=sum(turn.answer is not None for turn in turns))
    return Dialogue(1, "x-1", "", "Hi", tuple(turns), more.pop("spent", spent), **more)


def turn(seq: int, answer: Answer | None, *statuses: CallStatus, **more: Any) -> Turn:
    calls = tuple(
        Call(n, str(n), "look", {}, status, has_child=True) for n, status in enumerate(statuses)
    )
    return Turn(seq, answer=answer, calls=calls, **more)


WANTS = said(calls=(Wanted("1", "look", {}),), finish="tool_call")


def test_a_call_that_nobody_makes_any_more_is_looked_at_first() -> None:
    lost = Call(0, "0", "mcp_shop_note", {}, CallStatus.BEGUN)
    asked = Call(1, "1", "look", {}, CallStatus.ASKED)

    assert next_move(talk(Turn(1, answer=WANTS, calls=(lost, asked))), FREE) == Act(1)


def test_a_new_conversation_begins_with_a_question() -> None:
    assert next_move(talk(), FREE) == Ask(1)


def test_a_question_without_an_answer_is_asked_again() -> None:
    assert next_move(talk(turn(1, None, note="n", is_last=True)), FREE) == Ask(1, "n", True)


def test_a_text_is_the_output_where_none_is_declared() -> None:
    assert next_move(talk(turn(1, said("hello"))), FREE) == Finish({"text": "hello"})


@pytest.mark.parametrize(
    ("statuses", "move"),
    [
        ((CallStatus.WANTED,), Act(1)),
        ((CallStatus.APPROVED,), Act(1)),
        ((CallStatus.DONE, CallStatus.WANTED), Act(1)),
        ((CallStatus.ASKED, CallStatus.WANTED), Wait()),
        ((CallStatus.BEGUN, CallStatus.DONE), Wait()),
        ((CallStatus.BEGUN, CallStatus.WANTED), Act(1)),
        ((CallStatus.DONE, CallStatus.REFUSED, CallStatus.FAILED), Ask(2)),
    ],
)
def test_calls_are_made_waited_for_and_answered(statuses: Any, move: Any) -> None:
    assert next_move(talk(turn(1, WANTS, *statuses)), FREE) == move


@pytest.mark.parametrize("finish", ["length", "content_filter", "error"])
def test_a_cut_answer_fails_even_if_it_fits(finish: Any) -> None:
    cut = said('{"n": 1}', finish=finish)
    assert isinstance(next_move(talk(turn(1, cut)), TYPED), Fail)
    assert isinstance(
        next_move(talk(turn(1, replace(WANTS, finish=finish), CallStatus.WANTED)), FREE), Fail
    )


@pytest.mark.parametrize("text", ['{"n": 3}', '```json\n{"n": 3}\n```', ' {"n": 3.0} '])
def test_an_object_in_text_is_an_answer(text: str) -> None:
    assert next_move(talk(turn(1, said(text))), TYPED) == Finish({"n": 3})


def test_a_misfit_is_repaired_once() -> None:
    first = turn(1, said("", output={"n": "x"}, has_output=True))
    move = next_move(talk(first), TYPED)
    assert (
        isinstance(move, Ask)
        and move.note.startswith(REPAIR)
        and "'n' must be of type" in move.note
    )

    second = turn(2, said("", output={"n": 4}, has_output=True), note=move.note)
    assert next_move(talk(first, second), TYPED) == Finish({"n": 4})
    still = turn(2, said("[]"), note=move.note)
    assert isinstance(next_move(talk(first, still), TYPED), Fail)


def test_a_limit_fails_or_lets_the_model_finish() -> None:
    at = talk(turn(1, WANTS, CallStatus.DONE))
    move = next_move(at, Rules(Limits(turns=1)))
    assert isinstance(move, Fail) and not move.may_retry
    last = next_move(at, Rules(Limits(turns=1, at_limit="finish")))
    assert isinstance(last, Ask) and last.is_last
    over = talk(*at.turns, turn(2, WANTS, CallStatus.REFUSED, is_last=True))
    assert isinstance(next_move(over, Rules(Limits(turns=1, at_limit="finish"))), Fail)


def test_people_are_asked_where_their_answer_would_help() -> None:
    at = talk(turn(1, WANTS, CallStatus.DONE))
    own = Limits(turns=1, at_limit="ask")
    asks = Rules(own, more=raised(own, 1))
    assert isinstance(next_move(at, asks), AskForMore)
    assert isinstance(next_move(at, replace(asks, more=own)), Fail), "not raised by it"
    refused = next_move(replace(at, no_more="A person refused"), asks)
    assert isinstance(refused, Fail) and refused.error.endswith(". A person refused")
    assert raised(Limits(cost=0.5, time=60.0, at_limit="ask"), 2) == Limits(
        cost=1.5, time=180.0, at_limit="ask"
    )


def test_a_conversation_that_kills_its_process_ends() -> None:
    assert isinstance(next_move(talk(stints=6), FREE), Fail)


def test_the_tightest_limits_hold() -> None:
    found = tightest([Limits(turns=9), Limits(turns=3, cost=1.0), Limits(at_limit="finish")])
    assert found == Limits(turns=3, cost=1.0, at_limit="finish")


@pytest.mark.parametrize(
    ("limits", "spent", "told"),
    [
        (Limits(turns=3), Spent(turns=3), "3 of 3 turns"),
        (Limits(tokens=9), Spent(tokens=9), "9 of 9 tokens"),
        (Limits(cost=0.5), Spent(cost=0.5), "$0.5000 of $0.5"),
        (Limits(cost=0.5), Spent(unpriced=1), "price of the model is not known"),
        (Limits(time=60), Spent(time=61), "61 of 60 seconds"),
    ],
)
def test_each_limit_says_what_is_used(limits: Limits, spent: Spent, told: str) -> None:
    assert told in (reached(limits, spent) or "")
    assert reached(limits, Spent()) is None
    assert calls_left(Limits(tool_calls=3), Spent(tool_calls=5)) == 0


@pytest.mark.parametrize(
    ("turns", "max_turns", "expected"),
    [(None, None, 25), (60, None, 60), (None, 60, 60), (60, 40, 40), (10, 40, 10)],
)
def test_an_author_may_raise_the_turns_by_either_key(
    turns: int | None, max_turns: int | None, expected: int
) -> None:
    assert of_action(Limits(turns=turns, cost=1.0), max_turns) == Limits(turns=expected, cost=1.0)
