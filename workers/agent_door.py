"""What the process for agents asks of the platform."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from apps.agents.ledger import Acted, Opened, Opening, Parked
from apps.jobs.ledger import Claim
from engine.agents.dialogue import Answer, Dialogue, ToolSpec
from engine.agents.limits import Limits, Spent
from engine.agents.offers import RemoteTool


class AgentLedger(Protocol):
    """The functions of `apps.agents.ledger`."""

    def open(self, claim: Claim, opening: Opening) -> Opened | None: ...

    def read(self, conversation_id: int) -> Dialogue: ...

    def ask(
        self, claim: Claim, conversation_id: int, seq: int, note: str, *, is_last: bool, model: str
    ) -> bool: ...

    def answered(
        self, claim: Claim, conversation_id: int, seq: int, answer: Answer, masks: tuple[str, ...]
    ) -> bool: ...

    def offer(
        self,
        claim: Claim,
        conversation_id: int,
        listed: Mapping[str, Sequence[RemoteTool]],
        masks: tuple[str, ...],
    ) -> tuple[ToolSpec, ...] | None: ...

    def act(
        self, claim: Claim, dialogue: Dialogue, seq: int, limits: Limits, given: Mapping[str, Any]
    ) -> Acted | None: ...

    def made(
        self,
        claim: Claim,
        conversation_id: int,
        call: int,
        result: str,
        masks: tuple[str, ...],
        *,
        ok: bool,
    ) -> bool: ...

    def park(self, claim: Claim, conversation_id: int, left_s: float | None) -> Parked: ...

    def ask_for_more(self, claim: Claim, conversation_id: int, why: str) -> Parked: ...

    def refusal(self, claim: Claim) -> str | None: ...

    def spent_today(self) -> Spent: ...
