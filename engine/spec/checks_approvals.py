"""Rules about asking people: who may decide, and what comes too late."""

from __future__ import annotations

from collections.abc import Iterator

from engine.durations import Duration
from engine.spec.draft import Draft, step_subject
from engine.spec.model import Action, Problem
from engine.spec.problems import error, warning


def check_approvers(draft: Draft) -> Iterator[Problem]:
    for name, subject, action in draft.actions():
        if action.type not in ("approval", "agent"):
            continue
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


def check_times(draft: Draft) -> Iterator[Problem]:
    """What would come after the time-out of an action, or of a step that has one of its own."""
    for name, subject, action in draft.actions():
        for key, message in _too_late(subject, action, action.timeout):
            yield warning(draft.in_action(name, key), "approvers", message)
    for task_name, task in draft.workspace.tasks.items():
        for name, step in task.flow.items():
            found = draft.workspace.actions.get(step.action)
            if found is not None and step.timeout is not None:
                subject = step_subject(task_name, name)
                for key, message in _too_late(subject, found, step.timeout):
                    yield warning(draft.in_action(step.action, key), "approvers", message)


def _too_late(subject: str, action: Action, timeout: Duration | None) -> Iterator[tuple[str, str]]:
    """The keys that have no effect, and why."""
    if timeout is None or action.type not in ("approval", "agent"):
        return
    latest = max((reminder.seconds for reminder in action.reminders), default=0)
    after = action.escalation.after.seconds if action.escalation else 0
    for key, seconds in (("reminders", latest), ("escalation", after)):
        if seconds >= timeout.seconds:
            yield (
                key,
                f"{subject} {key} after {seconds:g}s has no effect: the approval times out after"
                f" {timeout.seconds:g}s",
            )


CHECKS = (check_approvers, check_times)
