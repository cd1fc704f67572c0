"""Rules about approvals: enough people may approve, and nothing is due after the time-out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from engine.spec.draft import Draft
from engine.spec.model import Action, Place, Problem
from engine.spec.problems import error, warning


def check_approvals(draft: Draft) -> Iterator[Problem]:
    for name, subject, action in draft.actions():
        if action.type != "approval":
            continue
        yield from _too_late(subject, action, partial(draft.in_action, name))
        place = draft.in_action(name, "min_approvals")
        users, groups = action.approvers.get("users", ()), action.approvers.get("groups", ())
        if not 1 <= action.min_approvals <= 100:
            message = (
                f"{subject} min_approvals must be between 1 and 100, got {action.min_approvals}"
            )
            yield error(place, "approvers", message)
        elif users and not groups and action.min_approvals > len(set(users)):
            message = (
                f"{subject} needs {action.min_approvals} approvals, but only {len(set(users))} may"
                " approve"
            )
            yield error(place, "approvers", message)


def _too_late(subject: str, action: Action, at: Callable[[str], Place]) -> Iterator[Problem]:
    """What an approval would do after its time-out."""
    if action.timeout is None:
        return
    latest = max((reminder.seconds for reminder in action.reminders), default=0)
    after = action.escalation.after.seconds if action.escalation else 0
    for key, seconds in (("reminders", latest), ("escalation", after)):
        if seconds >= action.timeout.seconds:
            message = (
                f"{subject} {key} after {seconds:g}s has no effect: the approval times out after"
                f" {action.timeout.seconds:g}s"
            )
            yield warning(at(key), "approvers", message)


CHECKS = (check_approvals,)
