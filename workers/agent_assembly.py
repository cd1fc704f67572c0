"""Assembles the process that performs agent steps: a worker without a workspace, a guard or a
runner of programs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.agents.limits import Limits
from engine.agents.providers import Provider
from engine.agents.servers import McpRules
from engine.spec.tags import AGENTS
from runners.agents.services import Services
from workers.agent_door import AgentLedger
from workers.agents import Agents, House
from workers.attempts import Attempts, Presence, Slots, Timing
from workers.bells import Ringer
from workers.config import WorkerConfig
from workers.door import OUTAGES, Bells, Ledger
from workers.lane import Crew, Lane
from workers.process import Worker
from workers.reporting import LogPump

log = logging.getLogger("stroem.agents")
STOP_GRACE_S = 1.0


@dataclass(frozen=True, slots=True)
class AgentDoors:
    """The platform, as whoever starts the process hands it over. `app` is Celery's."""

    ledger: Ledger
    agents: AgentLedger
    bells: Bells
    app: Any


class NoGuard:
    """A frozen process has nothing outside itself to end: its writes are refused by the fence."""

    def beat(self) -> None:
        """Nobody listens."""


@dataclass(frozen=True, slots=True)
class AgentSettings:
    name: str
    providers: Mapping[str, Provider]
    limits: Limits
    daily: Limits
    mcp: McpRules
    slots: int
    drain_s: float
    data_dir: Path


@dataclass(slots=True)
class AgentProcess:
    worker: Worker
    presence: Presence

    def open(self, hurry: threading.Event) -> bool:
        """Start once the database answers; False when `hurry` was set first."""
        said = False
        while not hurry.is_set():
            try:
                if self.presence.register():
                    self.worker.start()
                    return True
            except OUTAGES as error:
                if not said:
                    log.warning("waiting for the database: %s", type(error).__name__)
                said = True
            hurry.wait(1.0)
        return False


def assemble(
    settings: AgentSettings, doors: AgentDoors, *, lease_s: float, version: str
) -> AgentProcess:
    """The process for agents with these settings."""
    config = WorkerConfig(
        settings.name,
        settings.data_dir / "agents",
        tags=(AGENTS,),
        max_concurrent=settings.slots,
        drain_secs=settings.drain_s,
        stop_grace_secs=STOP_GRACE_S,
    )
    attempts, slots = Attempts(), Slots(settings.slots)
    presence = Presence(
        doors.ledger, config, attempts, NoGuard(), Timing.of(lease_s, STOP_GRACE_S),
        version=version, busy=lambda: slots.busy,
    )  # fmt: skip
    pump, ringer = LogPump(doors.ledger.append, doors.ledger.released), Ringer(doors.bells)
    crew = Crew(doors.ledger, presence, attempts, ringer, lease_s)
    agents = Agents(
        doors.ledger, doors.agents, Services(settings.providers), pump,
        House(settings.limits, settings.daily, settings.mcp),
    )  # fmt: skip
    lane = Lane(crew, slots, agents, doors.ledger.covered_by_agents)
    worker = Worker(
        config, doors.ledger, doors.bells, doors.app, presence, attempts, pump, ringer, lane
    )
    presence.after = worker.refresh_tag_sets
    return AgentProcess(worker, presence)
