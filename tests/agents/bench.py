"""The process for agents without a process: its performer, before the real ledger, claims one
attempt after the other where the test says so."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from apps.agents import ledger as agents_ledger
from apps.jobs import ledger
from apps.jobs.models import Job, Step
from engine.agents.limits import Limits
from engine.agents.providers import Price, Provider
from engine.agents.servers import McpRules
from runners.agents.services import Services
from workers.agents import Agents, House
from workers.attempts import Attempts
from workers.reporting import LogPump

TAGS = ("@agents",)


def providers(given: Mapping[str, Mapping[str, Any]]) -> dict[str, Provider]:
    return {
        name: Provider(**{**one, "price": Price(**one["price"]) if one.get("price") else None})
        for name, one in given.items()
    }


class Bench:
    """One such process."""

    def __init__(
        self,
        given: Mapping[str, Mapping[str, Any]],
        *,
        limits: Limits | None = None,
        daily: Limits | None = None,
        mcp: McpRules | None = None,
        name: str = "agents",
    ) -> None:
        self.id = ledger.register(name=name, tags=TAGS, slots=4, version="test")
        self.attempts = Attempts()
        self.pump = LogPump(ledger.append, ledger.released)
        self.agents = Agents(
            ledger,
            agents_ledger,
            Services(providers(given)),
            self.pump,
            House(limits or Limits(), daily or Limits(), mcp or McpRules()),
        )

    def claim(self) -> ledger.Claim | None:
        return ledger.claim(self.id, [ref.id for ref in ledger.covered_by_agents()])

    def turn(self) -> ledger.Claim | None:
        """Claim an agent step and go on with its conversation until it ends or waits."""
        claim = self.claim()
        if claim is not None:
            self.perform(claim)
        return claim

    def perform(self, claim: ledger.Claim) -> None:
        attempt = self.attempts.open(claim, time.monotonic())
        try:
            performed = self.agents.perform(attempt)
            if performed.ended is not None:
                for seq, lines in performed.ended.batches:
                    ledger.append(claim, seq, lines)
                ledger.finish(performed.ended.report)
        finally:
            self.attempts.close(attempt)

    def work(self) -> int:
        """Until nothing is ready for agents."""
        count = 0
        while self.turn() is not None:
            count += 1
            assert count < 5_000
        return count


def step_of(job: Job, name: str = "ask") -> Step:
    return Step.objects.get(job_id=job.id, name=name)


def known_providers(settings: Any, mcp: McpRules | None = None) -> None:
    """Let this installation have the providers of the local service."""
    here = {name: Provider(type=name, api_key="x") for name in ("openai", "anthropic", "opnai")}
    agents = replace(settings.STROEM.agents, providers=here, mcp=mcp or McpRules())
    settings.STROEM = replace(settings.STROEM, agents=agents)
