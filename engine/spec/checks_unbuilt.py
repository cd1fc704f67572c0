"""What the workspace language has and this version does not carry out: one warning names it all."""

from __future__ import annotations

from collections.abc import Iterator

from engine.orders import HELPER
from engine.spec.checks_exports import is_foreign
from engine.spec.draft import Draft
from engine.spec.fields import HOOK_LISTS
from engine.spec.model import Place, Problem
from engine.spec.problems import shorten, warning

UNBUILT = "not-built"
_MOST_NAMES = 5

_Found = tuple[str, str, Place]  # what, name, where


def check_unbuilt(draft: Draft) -> Iterator[Problem]:
    """One warning for the workspace, at the first place."""
    names: dict[str, list[str]] = {}
    places: list[Place] = []
    for what, name, place in _find(draft):
        named = names.setdefault(what, [])
        places.append(place)
        if name not in named:
            named.append(name)
    if names:
        listed = "; ".join(f"{what} {_shown(named)}" for what, named in names.items())
        message = f"this version does not carry out {listed}"
        first = min(places, key=lambda place: (place.file, place.line, place.column))
        yield warning(first, UNBUILT, message)


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(shorten(name, 40) for name in names[:_MOST_NAMES]) + more


def _find(draft: Draft) -> Iterator[_Found]:
    """Hooks with actions of other workspaces."""
    what = "hooks with actions of other workspaces, with which no job starts:"
    for hooks in (draft.workspace.hooks, *(t.hooks for t in draft.workspace.tasks.values())):
        for event in HOOK_LISTS:
            for hook in getattr(hooks, event):
                if is_foreign(draft, hook.action):
                    yield what, hook.action, hook.place


def check_helper(draft: Draft) -> Iterator[Problem]:
    for name, subject, action in draft.actions():
        if action.type in ("docker", "pod") and HELPER in (action.cmd or ""):
            message = (
                f"{subject} calls '{HELPER}', which images do not have; print STATE: and OUTPUT:"
                " lines, and write files to ARTIFACTS_DIR"
            )
            yield warning(draft.in_action(name, "cmd"), "helper", message)


CHECKS = (check_unbuilt, check_helper)
