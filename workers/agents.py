"""Performs agent steps: asks the model, makes its tool calls, and parks the step while others work.

Every turn: the row, then the question; the answer's row, then what follows from it. What to do next
is read from the rows alone, so it makes no difference which process does it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar, assert_never

from apps.agents.ledger import Opened, Opening, Parked
from apps.jobs.ledger import Claim, Material, Report
from engine.agents import limits as budgets
from engine.agents.dialogue import Answer, Dialogue, Question, ToolSpec
from engine.agents.limits import Limits, Spent
from engine.agents.moves import Act, Ask, AskForMore, Fail, Finish, Move, Rules, Wait, next_move
from engine.agents.schema import schema_of
from engine.agents.servers import McpRules
from engine.errors import StroemError
from engine.lifecycle import CallStatus
from engine.masking import masker
from engine.orders import AgentWork, StepOutcome, Verdict
from engine.spec.model import Action
from runners.agents.errors import ModelError, Stopped
from runners.agents.services import Services
from runners.mcp.servers import Servers
from workers.agent_door import AgentLedger
from workers.attempts import Attempt, fields
from workers.door import OUTAGES, Ledger
from workers.errands import make_errand
from workers.execution import CANCELLED, Performed
from workers.rendering import Prompts, render_prompts
from workers.reporting import Ended, LogPump, Reporter

log = logging.getLogger("stroem.agents")
T = TypeVar("T")
MOST_TOLD, MOST_LINES, SHOWN = 2_000, 40, 80  # of one thing in the log of the step


@dataclass(frozen=True, slots=True)
class House:
    """What the installation allows all conversations."""

    limits: Limits
    daily: Limits
    mcp: McpRules = field(default_factory=McpRules)


@dataclass(slots=True)
class _Talk:
    """One conversation under way."""

    attempt: Attempt
    work: AgentWork
    rules: Rules
    said: Report  # without an outcome of its own yet
    reporter: Reporter
    dialogue: Dialogue
    tools: tuple[ToolSpec, ...]
    servers: Servers
    masks: tuple[str, ...] = field(repr=False, default=())
    given: Mapping[str, Any] = field(repr=False, default_factory=dict)  # the step's input
    told: set[tuple[int, int]] = field(default_factory=set)  # calls that the log has

    @property
    def left_s(self) -> float | None:
        """Until the step's time-out, as of the last look at the rows."""
        given = (self.attempt.claim.timeout_s, self.work.limits.time)
        shortest = min((one for one in given if one is not None), default=None)
        return None if shortest is None else shortest - self.dialogue.spent.time


NOT_OURS = StepOutcome(Verdict.LOST)  # parked, or lost


class Agents:
    """Performs attempts of agent steps; any number of threads at a time."""

    def __init__(
        self, ledger: Ledger, agents: AgentLedger, services: Services, pump: LogPump, house: House
    ) -> None:
        self._ledger = ledger
        self._agents = agents
        self._services = services
        self._pump = pump
        self._house = house

    def perform(self, attempt: Attempt) -> Performed:
        """Go on with the conversation until it ends or must wait. Raises one of OUTAGES when the
        database goes away: what was done is in the rows, and the same call may be made again."""
        claim = attempt.claim
        masks: tuple[str, ...] = ()
        try:
            material = self._ledger.material(claim)
            assert isinstance(material, Material), "a step's claim has a step's material"
            masks = material.masks
            prompts = render_prompts(claim, material)
            masks = prompts.masks
            work = self._work(material.action, prompts)
            opened = self._agents.open(
                claim, Opening(work.provider, work.model or "", work.system, work.prompt, masks)
            )
        except OUTAGES:
            raise
        except StroemError as error:
            return Performed(Ended(Report(claim, _failed(str(error)), masks=masks)))
        if opened is None:
            return Performed()
        reporter = Reporter(claim, masks, self._pump)
        said = Report(claim, CANCELLED, prompts.seen, masks)
        raised = opened.dialogue.raised
        work = replace(work, limits=self._limits(material.action, raised))
        more = self._limits(material.action, raised + 1)
        talk = _Talk(
            attempt,
            work,
            Rules(work.limits, prompts.output, more),
            said,
            reporter,
            opened.dialogue,
            opened.tools,
            Servers(opened.servers, self._house.mcp, attempt.stop, reporter.say),
            masks,
            prompts.input,
        )
        outcome = self._talk(talk, opened)
        batches = reporter.close()
        return Performed(
            None if outcome is None else Ended(replace(said, outcome=outcome), batches)
        )

    def tidy(self, attempt: Attempt, performed: Performed) -> None:
        """A conversation occupies nothing."""

    def _work(self, action: Action, prompts: Prompts) -> AgentWork:
        assert action.provider is not None
        provider = self._services.provider(action.provider)
        return AgentWork(
            action.provider,
            action.model or provider.model,
            prompts.system,
            prompts.prompt,
            self._limits(action, 0),
            schema_of(prompts.output) if prompts.output else None,
            action.max_tokens or provider.max_tokens,
            provider.temperature if action.temperature is None else action.temperature,
        )

    def _limits(self, action: Action, raised: int) -> Limits:
        """The author's, as often raised, within the installation's."""
        own = budgets.of_action(action.limits or Limits(), action.max_turns)
        return budgets.tightest([budgets.raised(own, raised), self._house.limits])

    # One move after the other

    def _talk(self, talk: _Talk, opened: Opened) -> StepOutcome | None:
        """The outcome; None if the attempt is parked, given back or lost."""
        try:
            if opened.must_list and not self._list(talk, opened):
                return None
            while True:
                reason = talk.attempt.stop.reason
                if reason is not None:
                    return self._stopped(talk, reason)
                outcome = self._move(talk, next_move(talk.dialogue, talk.rules))
                if outcome is not None:
                    return None if outcome is NOT_OURS else outcome
                talk.dialogue = self._sure(talk, partial(self._agents.read, talk.dialogue.id))
        except Stopped:
            return self._stopped(talk, talk.attempt.stop.reason)
        except ModelError as error:
            return _failed(str(error), may_retry=error.is_transient)
        except StroemError as error:
            return _failed(str(error))
        except Exception as error:
            log.exception("the conversation failed", extra=fields(talk.attempt.claim))
            told = f"The process for agents failed in this step ({type(error).__name__})"
            return _failed(f"{told}; its log says more")
        finally:
            talk.servers.close()

    def _list(self, talk: _Talk, opened: Opened) -> bool:
        """Store what the servers of the step offer; False if the attempt is lost."""
        self._ledger.released()  # nothing is held while they start
        listed = {name: talk.servers.tools(name) for name in opened.servers}
        for name, tools in listed.items():
            talk.reporter.say(f"MCP server {name}: {len(tools)} tools")
        offer = partial(
            self._agents.offer, talk.attempt.claim, talk.dialogue.id, listed, talk.masks
        )
        found = self._sure(talk, offer)
        talk.tools = found or ()
        return found is not None

    def _stopped(self, talk: _Talk, reason: str | None) -> StepOutcome | None:
        if reason == "cancel":
            return CANCELLED
        if reason == "drain":
            self._ledger.give_back(talk.attempt.claim)
        return None

    def _move(self, talk: _Talk, move: Move) -> StepOutcome | None:
        """Do one move; the outcome if it ends the attempt."""
        timeout_s = talk.attempt.claim.timeout_s
        is_late = timeout_s is not None and talk.dialogue.spent.time >= timeout_s
        if is_late and not isinstance(move, Finish):
            return StepOutcome(Verdict.TIMED_OUT, error=f"Step timed out after {timeout_s:g}s")
        match move:
            case Ask():
                return self._ask(talk, move)
            case Act(seq):
                return self._act(talk, seq)
            case Wait():
                return self._wait(talk, partial(self._agents.park, left_s=talk.left_s))
            case AskForMore(why):
                return self._wait(talk, partial(self._agents.ask_for_more, why=why))
            case Finish(output):
                told = {**output, "_meta": _meta(talk)}
                return StepOutcome(Verdict.SUCCEEDED, output=told, has_output=True)
            case Fail(error, may_retry):
                return _failed(error, may_retry=may_retry)
            case _:
                assert_never(move)

    def _act(self, talk: _Talk, seq: int) -> StepOutcome | None:
        for call in talk.dialogue.turns[-1].calls:
            if call.status is CallStatus.WANTED and (seq, call.index) not in talk.told:
                talk.told.add((seq, call.index))
                given = json.dumps(call.arguments, ensure_ascii=False, default=str)
                _tell(talk, f"calls {call.tool[:SHOWN]}", given)
        claim, dialogue = talk.attempt.claim, talk.dialogue
        make = partial(self._agents.act, claim, dialogue, seq, talk.work.limits, talk.given)
        acted = self._sure(talk, make)
        if acted is None:
            return NOT_OURS
        if acted.refusal is not None:
            return _failed(acted.refusal, may_retry=False)
        if acted.errand is None:
            return None
        self._ledger.released()  # nothing is held while the server works
        made = make_errand(acted.errand, talk.servers, talk.attempt.stop, talk.left_s)
        keep = partial(
            self._agents.made, claim, dialogue.id, acted.errand.call, made.text, talk.masks,
            ok=made.is_done,
        )  # fmt: skip
        if not self._sure(talk, keep):
            return NOT_OURS
        return None if made.trouble is None else _failed(made.trouble)

    def _ask(self, talk: _Talk, move: Ask) -> StepOutcome | None:
        claim, work, dialogue = talk.attempt.claim, talk.work, talk.dialogue
        refusal = self._sure(talk, self._refusal_today)
        if refusal is not None:
            return _failed(refusal)
        refusal = self._sure(talk, partial(self._agents.refusal, claim))
        if refusal is not None:
            return _failed(refusal, may_retry=False)
        model = self._services.model(work.provider, work.model)
        note = masker(talk.masks).text(move.note) if talk.masks else move.note
        begin = partial(
            self._agents.ask, claim, dialogue.id, move.seq, note,
            is_last=move.is_last, model=model.name,
        )  # fmt: skip
        if not self._sure(talk, begin):
            return NOT_OURS
        self._ledger.released()  # nothing is held while the model thinks
        for call in dialogue.turns[-1].calls if dialogue.turns else ():
            _tell(talk, f"{call.tool[:SHOWN]} answers", call.result)
        question = Question(
            key=f"stroem-{dialogue.name}-{move.seq}",
            dialogue=dialogue,
            note=note,
            tools=() if move.is_last else talk.tools,
            schema=work.schema,
            max_tokens=_most_tokens(work, dialogue.spent),
            temperature=work.temperature,
        )
        answer = self._services.patience(work.provider).ask(
            model, question, talk.attempt.stop, left_s=talk.left_s, say=talk.reporter.say
        )
        keep = partial(self._agents.answered, claim, dialogue.id, move.seq, answer, talk.masks)
        if not self._sure(talk, keep):
            return NOT_OURS
        talk.reporter.say(_summary(move.seq, answer))
        if answer.text and not answer.has_output:
            _tell(talk, "says", answer.text)
        return None

    def _refusal_today(self) -> str | None:
        daily = self._house.daily
        if daily.tokens is None and daily.cost is None:
            return None
        why = budgets.reached(daily, self._agents.spent_today())
        return None if why is None else f"The installation's limit of a day is reached: {why}"

    def _wait(self, talk: _Talk, wait: Callable[[Claim, int], Parked]) -> StepOutcome | None:
        self._sure(talk, partial(talk.reporter.flush, self._ledger.append))
        parked = self._sure(talk, partial(wait, talk.attempt.claim, talk.dialogue.id))
        match parked:
            case Parked.GO_ON:
                return None
            case Parked.CANCELLED:
                return CANCELLED
            case Parked.PARKED | Parked.LOST:
                return NOT_OURS
            case _:
                assert_never(parked)

    def _sure(self, talk: _Talk, call: Callable[[], T]) -> T:
        """The result of a call to the database; while it is away, the call waits and is repeated.
        Raises Stopped if the attempt ends before."""
        pause_s = 0.1
        while True:
            try:
                return call()
            except OUTAGES as error:
                log.warning(
                    "waiting for the database (%s)", type(error).__name__,
                    extra=fields(talk.attempt.claim),
                )  # fmt: skip
                self._ledger.released()
                if talk.attempt.stop.wait(pause_s):
                    raise Stopped from error
                pause_s = min(2.0, pause_s * 2)


def _most_tokens(work: AgentWork, spent: Spent) -> int | None:
    """The greatest length of the next answer."""
    limit = work.limits.tokens
    left = None if limit is None else max(1, limit - spent.tokens)
    return min((one for one in (work.max_tokens, left) if one is not None), default=None)


def _tell(talk: _Talk, what: str, text: str) -> None:
    """Add what was said to the step's log, cut."""
    cut = text if len(text) <= MOST_TOLD else f"{text[:MOST_TOLD]} … ({len(text):,} letters)"
    for line in cut.splitlines()[:MOST_LINES]:
        talk.reporter.say(f"  {what}: {line}")


def _summary(seq: int, answer: Answer) -> str:
    usage = answer.usage
    cost = "" if usage.cost is None else f", ${usage.cost:.4f}"
    wants = f", wants {len(answer.calls)} tool calls" if answer.calls else ""
    return (
        f"Turn {seq}: {answer.model}, {usage.tokens_in} tokens in, {usage.tokens_out} out{cost},"
        f" {answer.latency_s:.1f} s{wants}"
    )


def _meta(talk: _Talk) -> dict[str, Any]:
    """What the conversation used, for the output."""
    answers = [turn.answer for turn in talk.dialogue.turns if turn.answer is not None]
    spent = talk.dialogue.spent
    return {
        "provider": talk.work.provider,
        "model": answers[-1].model if answers else talk.work.model,
        "turns": spent.turns,
        "tool_calls": spent.tool_calls,
        "tokens_in": sum(answer.usage.tokens_in for answer in answers),
        "tokens_out": sum(answer.usage.tokens_out for answer in answers),
        "tokens_cached": sum(answer.usage.cached for answer in answers),
        "cost": None if spent.unpriced else round(spent.cost, 8),
        "latency_s": round(sum(answer.latency_s for answer in answers), 3),
    }


def _failed(error: str, *, may_retry: bool = True) -> StepOutcome:
    return StepOutcome(Verdict.FAILED, error=error, may_retry=may_retry)
