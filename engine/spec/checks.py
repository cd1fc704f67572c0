"""Every rule that a workspace must keep, in one list. A check looks at the whole draft and yields
problems."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from engine.spec import (
    checks_actions,
    checks_agents,
    checks_connections,
    checks_flow,
    checks_inputs,
    checks_names,
    checks_templates,
    checks_triggers,
    checks_workflow_actions,
)
from engine.spec.draft import Draft
from engine.spec.model import Problem

Check = Callable[[Draft], Iterator[Problem]]

CHECKS: tuple[Check, ...] = (
    *checks_names.CHECKS,
    *checks_actions.CHECKS,
    *checks_agents.CHECKS,
    *checks_inputs.CHECKS,
    *checks_flow.CHECKS,
    *checks_triggers.CHECKS,
    *checks_connections.CHECKS,
    *checks_workflow_actions.CHECKS,
    *checks_templates.CHECKS,
)


def check(draft: Draft) -> Iterator[Problem]:
    for rule in CHECKS:
        yield from rule(draft)
