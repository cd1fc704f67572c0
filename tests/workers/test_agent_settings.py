"""What the settings of a provider, and of the installation, become in the work of an agent step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from engine.agents.limits import Limits
from engine.agents.providers import Provider
from engine.spec.model import Action
from workers.agents import Agents, House
from workers.rendering import Prompts

PROMPTS = Prompts("hello", "", {}, {}, {}, ())
SERVICES: Any = SimpleNamespace(
    provider=lambda name: Provider("fake", model="small", max_tokens=100, temperature=0.5)
)


def work(action: Action, limits: Limits) -> Any:
    agents = Agents.__new__(Agents)  # without its doors: only what is said of the step counts
    agents._services, agents._house = SERVICES, House(limits, Limits())
    return agents._work(action, PROMPTS)


def test_a_step_that_says_nothing_gets_what_its_provider_and_the_installation_say() -> None:
    house = Limits(turns=3, tokens=500, cost=1.5, tool_calls=2, time=60.0)
    found = work(Action("agent", provider="p", prompt="x"), house)
    assert (found.model, found.max_tokens, found.temperature) == ("small", 100, 0.5)
    assert found.limits == house


def test_a_step_may_choose_otherwise_within_the_limits() -> None:
    own = Action(
        "agent", provider="p", prompt="x", model="large", max_tokens=7, temperature=0.0,
        limits=Limits(tokens=50),
    )  # fmt: skip
    found = work(own, Limits(tokens=500))
    assert (found.model, found.max_tokens, found.temperature) == ("large", 7, 0.0)
    assert found.limits.tokens == 50
