"""Where the command `stroem-step` is called, and where it cannot be."""

from __future__ import annotations

from collections.abc import Iterator

from engine.orders import HELPER
from engine.spec.draft import Draft
from engine.spec.model import Problem
from engine.spec.problems import warning


def check_helper(draft: Draft) -> Iterator[Problem]:
    for name, subject, action in draft.actions():
        if action.type in ("docker", "pod"):
            key, where = "cmd", "images do not have"
        elif action.type == "script" and action.runner == "pod":
            key, where = "script", "steps in pods do not have"
        else:
            continue
        if HELPER in (getattr(action, key) or ""):
            message = (
                f"{subject} calls '{HELPER}', which {where}; print STATE: and OUTPUT: lines, and"
                " write files to ARTIFACTS_DIR"
            )
            yield warning(draft.in_action(name, key), "helper", message)


CHECKS = (check_helper,)
