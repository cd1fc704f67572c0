"""Warnings about providers of language models that this installation does not have."""

from __future__ import annotations

from collections.abc import Iterable

from engine.spec.model import Problem
from engine.spec.model import Workspace as Definition
from engine.spec.problems import did_you_mean, shorten, warning


def unknown_providers(definition: Definition, known: Iterable[str]) -> list[Problem]:
    """One warning per action: the settings may follow the workspace, so nothing is refused."""
    names = sorted(known)
    there = f"expected one of {', '.join(names)}" if names else "`agents.providers` names none"
    return [
        warning(
            action.place,
            "unknown-provider",
            f"Agent '{shorten(_shown(name))}' names the provider"
            f" '{shorten(action.provider)}', which this installation does not have"
            f"{did_you_mean(action.provider, names)}; {there}",
        )
        for name, action in definition.actions.items()
        if action.type == "agent" and action.provider and action.provider not in names
    ]


def _shown(action: str) -> str:
    return action.removeprefix("_inline:").replace(":", "/")
