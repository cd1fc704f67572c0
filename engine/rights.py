"""What a person may do with a task: rights out of grants, denials, and what files keep to some.

The one place that decides. A right needs a grant, no denial, and everybody whom the workspace's
files keep it to; without the right to see something there is no other right on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Right(StrEnum):
    SEE = "see"
    INPUTS = "inputs"
    LOGS = "logs"
    RUN = "run"
    APPROVE = "approve"
    SECRETS = "secrets"
    MANAGE = "manage"


Rights = frozenset[Right]
NO_RIGHTS: Rights = frozenset()
ALL_RIGHTS: Rights = frozenset(Right)
OF_VIEWERS: Rights = frozenset((Right.SEE, Right.INPUTS, Right.LOGS))
OF_OPERATORS: Rights = OF_VIEWERS | {Right.RUN, Right.APPROVE}
OF_ROLES: Mapping[str, Rights] = {
    "viewer": OF_VIEWERS,
    "operator": OF_OPERATORS,
    "admin": ALL_RIGHTS,
}
OF_WORKSPACES: Rights = frozenset((Right.SECRETS,))  # no single task has them
MEANINGS: Mapping[Right, str] = {
    Right.SEE: "see that a task and its jobs exist, their steps and how they ended",
    Right.INPUTS: "see inputs, and what repeats them: outputs, artifacts, state",
    Right.LOGS: "see logs, and what quotes them: errors",
    Right.RUN: "start, cancel and restart jobs, fire and pause triggers, write state",
    Right.APPROVE: "decide approvals that name nobody",
    Right.SECRETS: "store and remove secrets and connections",
    Right.MANAGE: "read the source again, refresh libraries, manage subscriptions, remove state",
}
EVERYTHING = "*"


@dataclass(frozen=True, slots=True)
class Rule:
    """A grant: `rights` on the tasks that match, or, with `denies`, what it takes away there."""

    id: int
    workspaces: str
    rights: Rights
    tasks: str = EVERYTHING
    denies: bool = False
    held_by: str = ""  # in words

    @property
    def is_whole(self) -> bool:
        """Whether it is for the workspace itself, not only for some tasks."""
        return not self.tasks.strip(EVERYTHING)

    def covers(self, path: str | None) -> bool:
        """`path`: of a task; None: the workspace itself."""
        return self.is_whole or (path is not None and matches(self.tasks, path))


@dataclass(frozen=True, slots=True)
class Keepers:
    """Whom the files of a workspace keep a right to."""

    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    def include(self, holder: Holder) -> bool:
        return holder.email in self.users or not holder.groups.isdisjoint(self.groups)

    def __str__(self) -> str:
        return ", ".join([*self.users, *(f"the group {name}" for name in self.groups)]) or "nobody"


Access = Mapping[Right, Sequence[Keepers]]  # all of them must include who has the right
NO_ACCESS: Access = {}


@dataclass(frozen=True, slots=True)
class Holder:
    """`email` in lower case."""

    email: str
    groups: frozenset[str] = frozenset()
    is_superuser: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether somebody has a right, and what decided: `rule`, or a sentence without one."""

    allowed: bool
    because: str
    rule: Rule | None = None


@dataclass(frozen=True, slots=True)
class Ground:
    """What there is to decide about: the workspace itself without a `path`."""

    workspace: str
    path: str | None = None
    access: Access = field(default_factory=dict)


def path_of(task: str, folder: str | None) -> str:
    """What patterns of tasks are compared with."""
    return f"{folder}/{task}" if folder else task


def decide(rules: Iterable[Rule], holder: Holder, ground: Ground) -> Rights:
    """The rights of `holder`; `rules` are theirs."""
    given, taken = _weigh(rules, ground)
    kept = given - taken
    if ground.access and not holder.is_superuser:  # a superuser's, by an API key that narrows them
        kept -= {
            right
            for right, circles in ground.access.items()
            if not all(circle.include(holder) for circle in circles)
        }
    return kept if Right.SEE in kept else NO_RIGHTS


def _weigh(rules: Iterable[Rule], ground: Ground) -> tuple[Rights, Rights]:
    given: set[Right] = set()
    taken: set[Right] = set()
    for rule in rules:
        if matches(rule.workspaces, ground.workspace) and rule.covers(ground.path):
            (taken if rule.denies else given).update(rule.rights)
    return frozenset(given), frozenset(taken)


def explain(rules: Iterable[Rule], holder: Holder, ground: Ground) -> dict[Right, Verdict]:
    """The same decision, with what decided each right."""
    if holder.is_superuser:
        return dict.fromkeys(Right, Verdict(True, "superusers may do everything"))
    near = [
        rule
        for rule in rules
        if matches(rule.workspaces, ground.workspace) and rule.covers(ground.path)
    ]
    found = {right: _explain(right, near, holder, ground) for right in Right}
    seen = found[Right.SEE]
    if not seen.allowed:
        hidden = Verdict(False, f"who may not see it may do nothing with it: {seen.because}")
        found |= {
            right: hidden
            for right, verdict in found.items()
            if verdict.allowed and right is not Right.SEE
        }
    return found


def _explain(right: Right, near: Sequence[Rule], holder: Holder, ground: Ground) -> Verdict:
    for rule in near:
        if rule.denies and right in rule.rights:
            return Verdict(False, "denied, and that wins", rule)
    given = next((rule for rule in near if not rule.denies and right in rule.rights), None)
    if given is None:
        return Verdict(False, "no grant gives it")
    for circle in ground.access.get(right, ()):
        if not circle.include(holder):
            return Verdict(False, f"the workspace's files keep it to {circle}")
    return Verdict(True, "granted", given)


# Patterns


def matches(pattern: str, name: str) -> bool:
    """Whether the whole of `name` fits; `*` stands for any characters. In linear time."""
    first, *rest = pattern.split(EVERYTHING)
    if not rest:
        return pattern == name
    if not name.startswith(first):
        return False
    at, last = len(first), rest.pop()
    for piece in rest:
        found = name.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    return len(name) - at >= len(last) and name.endswith(last)


def expression(pattern: str) -> str:
    """A regular expression that Python and PostgreSQL read alike; `*` matches anything."""
    # Two stars in a row match no more than one, but take long to find that out.
    single = re.sub(r"\*+", EVERYTHING, pattern)
    return "".join(".*" if letter == EVERYTHING else _literal(letter) for letter in single)


def _literal(letter: str) -> str:
    return letter if letter.isalnum() or letter in "_-" else f"\\{letter}"
