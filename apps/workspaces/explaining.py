"""Who may do what, and why: the decision of `engine.rights`, told for people instead of rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from apps.accounts.models import User, WorkspaceGrant, rules_of
from apps.workspaces.models import WHOLE, TaskList, Workspace
from apps.workspaces.rights import Listed, ground_of
from engine.rights import OF_WORKSPACES, Holder, Right, Rule, Verdict, decide, explain

Verdicts = Mapping[Right, Verdict]


@dataclass(frozen=True, slots=True)
class TaskVerdicts:
    """What somebody may do with one task; the workspace itself has no `task`."""

    workspace: str
    task: str
    folder: str
    verdicts: Verdicts


@dataclass(frozen=True, slots=True)
class PersonVerdicts:
    person: User
    verdicts: Verdicts


def of_person(person: User, workspaces: Iterable[Workspace]) -> list[TaskVerdicts]:
    """On each workspace itself and each of its tasks, sorted by folder."""
    rules, who = person.rules, person.holder
    found: list[TaskVerdicts] = []
    for row in _listed(workspaces):
        tasks = sorted(row.stored or {WHOLE: (None, {})}, key=lambda task: _place(row, task))
        for task in tasks:
            verdicts = explain(rules, who, ground_of(row, task))
            told = _told(person, task, verdicts)
            found.append(TaskVerdicts(row.name, task, _folder(row, task), told))
    return found


def on_task(workspace: Workspace, task: str) -> list[PersonVerdicts]:
    """Of everybody with a grant, and of superusers, by e-mail. Without a task: on the workspace."""
    (row,) = _listed([workspace])
    ground = ground_of(row, task)
    return [
        PersonVerdicts(person, _told(person, task, explain(rules, who, ground)))
        for person, rules, who in _holders()
    ]


def who_has(workspace: Workspace, task: str, right: Right) -> list[User]:
    """Active people with this right, by e-mail."""
    (row,) = _listed([workspace])
    ground = ground_of(row, task)
    return [
        person
        for person, rules, who in _holders()
        if person.is_active and (who.is_superuser or right in decide(rules, who, ground))
    ]


def _told(person: User, task: str, verdicts: Verdicts) -> Verdicts:
    """Without rights that no task has; nobody may do anything with an account that is off."""
    shown = {
        right: verdict
        for right, verdict in verdicts.items()
        if not task or right not in OF_WORKSPACES
    }
    if person.is_active:
        return shown
    return dict.fromkeys(shown, Verdict(False, "the account is switched off"))


def _listed(workspaces: Iterable[Workspace]) -> list[Listed]:
    rows = list(workspaces)
    lists = TaskList.objects.in_bulk([row.pk for row in rows])
    return [
        Listed(row.pk, row.name, lists[row.pk].tasks if row.pk in lists else None) for row in rows
    ]


def _folder(row: Listed, task: str) -> str:
    return ((row.stored or {}).get(task, (None, {}))[0] or "") if task else ""


def _place(row: Listed, task: str) -> tuple[bool, str, str]:
    return task != WHOLE, _folder(row, task), task


def _holders() -> list[tuple[User, tuple[Rule, ...], Holder]]:
    """Everybody with a grant of their own or of a group, and superusers. Four queries."""
    own: defaultdict[int, list[Rule]] = defaultdict(list)
    of_group: defaultdict[int, list[Rule]] = defaultdict(list)
    for rule, user_id, group_id in rules_of(WorkspaceGrant.objects.all()):
        if user_id is not None:
            own[user_id].append(rule)
        elif group_id is not None:
            of_group[group_id].append(rule)
    members = User.groups.through.objects.filter(group_id__in=list(of_group))
    keys = set(own) | set(members.values_list("user_id", flat=True))
    people = User.objects.filter(pk__in=keys) | User.objects.filter(is_superuser=True)
    found = []
    for person in people.prefetch_related("groups").order_by("email"):
        groups = list(person.groups.all())
        rules = (*own[person.pk], *(rule for one in groups for rule in of_group[one.pk]))
        names = frozenset(one.name for one in groups)
        found.append((person, rules, Holder(person.email.lower(), names, person.is_superuser)))
    return found
