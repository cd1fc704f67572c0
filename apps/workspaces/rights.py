"""What a person may do: the one decision on workspaces, tasks, and whatever comes from them.

Views, pages, commands and sockets ask here; lists get a condition for their rows. The grants and
the tasks they are about are read once per user object: three queries at most, whatever is asked.
A job has the rights of its task, as the workspace stands now. One that runs no task of the files
(a hook's action, an upload) belongs to the whole workspace: it takes the right on every task.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django.core.exceptions import PermissionDenied
from django.db.models import Case, JSONField, Q, QuerySet, Value, When
from django.db.models.functions import Coalesce

from apps.accounts.models import Person, User
from apps.workspaces.models import WHOLE, Workspace
from engine.rights import (
    ALL_RIGHTS,
    NO_ACCESS,
    NO_RIGHTS,
    OF_VIEWERS,
    Access,
    Ground,
    Holder,
    Keepers,
    Right,
    Rights,
    Rule,
    decide,
    expression,
    matches,
    path_of,
)

NO_INPUTS = (
    "You may see this job, but not its inputs, outputs and files: the right 'inputs' is missing"
)
NO_LOGS = "You may see this job, but not its logs and errors: the right 'logs' is missing"
NOT_TOLD = (
    "The newest state of the files failed to load; what is wrong is told to those who see the whole"
    " workspace"
)
NO_SUBSCRIPTIONS = (
    "Subscriptions tell others of all jobs, their errors and outputs: they take the right 'manage'"
    " on the whole workspace, and 'see', 'inputs' and 'logs' on every task"
)
NOT_WHOLE = (
    "Connections and libraries name the tasks that use them: they are for those who may see every"
    " task of the workspace"
)
REFUSALS = {Right.INPUTS: NO_INPUTS, Right.LOGS: NO_LOGS}
NOBODY = Holder("")
NOTHING = Q(pk__in=())
_ASKED = Rule(0, "*", frozenset((Right.APPROVE,)))
Stored = Mapping[str, tuple[str | None, dict[str, Any]]]


class Listed(NamedTuple):
    """A workspace, and the tasks that are noted of it."""

    id: int
    name: str
    stored: Stored | None


@dataclass(frozen=True, slots=True)
class View:
    """A workspace as a person sees it. `own`: rights on the workspace itself; `tasks`: by name,
    where a person's rights are not the same on all of them; `others`: on jobs of no task."""

    id: int
    own: Rights
    tasks: Mapping[str, Rights] | None = None
    others: Rights = NO_RIGHTS

    def on(self, task: str) -> Rights:
        if not task or self.tasks is None:
            return self.own
        return self.tasks.get(task, self.others)

    @property
    def anywhere(self) -> Rights:
        return self.own.union(*self.tasks.values()) if self.tasks else self.own


@dataclass(frozen=True, slots=True)
class Sight:
    """What one person may do, everywhere."""

    is_everything: bool = False
    views: Mapping[str, View] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    only: tuple[str, ...] = ()  # patterns of workspaces, of an API key

    def on(self, workspace: str, task: str = WHOLE) -> Rights:
        """Rights on a task, or on the workspace itself."""
        if self.is_everything:
            return ALL_RIGHTS
        view = self.views.get(workspace)
        return view.on(task) if view else NO_RIGHTS

    def sees(self, workspace: str) -> bool:
        """Whether there is anything to see in it."""
        view = self.views.get(workspace)
        return self.is_everything or (view is not None and Right.SEE in view.anywhere)

    def is_whole(self, workspace: str) -> bool:
        """Whether every task of it may be seen."""
        view = self.views.get(workspace)
        return self.is_everything or (view is not None and Right.SEE in _everywhere(view))

    def whole(self) -> Q:
        """A condition for rows of those workspaces."""
        return Q() if self.is_everything else self._whole(Right.SEE, "workspace")

    def may_subscribe(self, workspace: str) -> bool:
        """Whether they may have others told of the workspace's jobs, with errors and outputs."""
        if self.is_everything:
            return True
        view = self.views.get(workspace)
        return view is not None and Right.MANAGE in view.own and _everywhere(view) >= OF_VIEWERS

    def subscribable(self) -> Q:
        """A condition for those workspaces."""
        if self.is_everything:
            return Q()
        return Q(pk__in=[view.id for name, view in self.views.items() if self.may_subscribe(name)])

    def workspaces(self, right: Right = Right.SEE) -> Q:
        """A condition for workspaces: those with anything to see, or with `right` on the whole."""
        if self.is_everything:
            return Q()
        return Q(pk__in=[
            view.id
            for view in self.views.values()
            if right in (view.anywhere if right is Right.SEE else view.own)
        ])  # fmt: skip

    def tasks(
        self, right: Right = Right.SEE, *, workspace: str = "workspace", task: str = "task_name"
    ) -> Q:
        """A condition for rows about tasks, by the paths to the id of the workspace and to the name
        of the task."""
        if self.is_everything:
            return Q()
        condition = self._whole(right, workspace)
        for view in self.views.values():
            if right not in _everywhere(view) and (names := _allowed(view, right)):
                condition |= Q(**{workspace: view.id, f"{task}__in": names})
        return condition

    def _whole(self, right: Right, workspace: str) -> Q:
        """For the workspaces on all of which they have the right. With a grant on every workspace,
        these are also all but the others; the shorter list is the quicker."""
        whole: list[int] = []
        others: list[int] = []
        for view in self.views.values():
            (whole if right in _everywhere(view) else others).append(view.id)
        if self._has_grant_on_all(right) and len(others) < len(whole):
            return ~Q(**{f"{workspace}__in": others}) if others else Q()
        return Q(**{f"{workspace}__in": whole}) if whole else NOTHING

    def _has_grant_on_all(self, right: Right) -> bool:
        return not self.only and any(
            rule.workspaces == "*"
            and rule.is_whole
            and rule.rights >= {right, Right.SEE}
            and not rule.denies
            for rule in self.rules
        )

    def named_tasks(
        self, right: Right = Right.SEE, *, workspace: str = "workspace", task: str = "task_name"
    ) -> Q:
        """The same, for rows that keep the name of the workspace and outlive it."""
        if self.is_everything:
            return Q()
        condition = self._whole_by_name(right, workspace)
        for name, view in self.views.items():
            if right not in _everywhere(view) and (names := _allowed(view, right)):
                condition |= Q(**{workspace: name, f"{task}__in": names})
        return condition

    def _whole_by_name(self, right: Right, workspace: str) -> Q:
        """Also for workspaces that are gone, as far as grants and denials go by their names."""
        views = self.views.items()
        grants = [r for r in self.rules if r.is_whole and not r.denies and right in r.rights]
        denials = [r for r in self.rules if r.denies and r.rights & {right, Right.SEE}]
        is_denied = any(rule.workspaces == "*" for rule in denials)
        given, taken = "" if is_denied else _regex(grants), _regex(denials)
        if self._has_grant_on_all(right) and not taken:
            others = [name for name, view in views if right not in _everywhere(view)]
            return ~Q(**{f"{workspace}__in": others}) if others else Q()
        whole = [name for name, view in views if right in _everywhere(view)]
        condition = Q(**{f"{workspace}__in": whole}) if whole else NOTHING
        if given:
            gone = Q(**{f"{workspace}__regex": given}) & ~Q(
                **{f"{workspace}__in": Workspace.objects.values("name")}
            )
            if taken:
                gone &= ~Q(**{f"{workspace}__regex": taken})
            if self.only:
                gone &= Q(**{f"{workspace}__regex": _any_of(self.only)})
            condition |= gone
        return condition


def _everywhere(view: View) -> Rights:
    return view.own if view.tasks is None else view.others


def _allowed(view: View, right: Right) -> list[str]:
    return [name for name, rights in (view.tasks or {}).items() if right in rights]


def _regex(rules: Iterable[Rule]) -> str:
    return _any_of(sorted({rule.workspaces for rule in rules}))


def _any_of(patterns: Sequence[str]) -> str:
    return f"^(?:{'|'.join(map(expression, patterns))})$" if patterns else ""


NO_SIGHT, EVERYTHING_IN_SIGHT = Sight(), Sight(is_everything=True)


def sight_of(user: Person) -> Sight:
    """What `user` may do; read once per user object."""
    if not isinstance(user, User) or not user.is_active:
        return NO_SIGHT
    if user.is_superuser:
        return EVERYTHING_IN_SIGHT
    known: Sight | None = getattr(user, "_stroem_sight", None)
    if known is None:
        known = _look(user)
        setattr(user, "_stroem_sight", known)  # noqa: B010  (our own attribute on Django's class)
    return known


def sight_if_asked(user: Person) -> Sight:
    """The same, for somebody whom an approval names: they may decide without a grant of it, but
    not against a denial, and not what they must not see."""
    if not isinstance(user, User) or not user.is_active:
        return NO_SIGHT
    if user.is_superuser:
        return EVERYTHING_IN_SIGHT
    known: Sight | None = getattr(user, "_stroem_sight_if_asked", None)
    if known is None:
        known = _look(user, _ASKED)
        setattr(user, "_stroem_sight_if_asked", known)  # noqa: B010
    return known


def _look(user: User, *more: Rule) -> Sight:
    own = user.rules
    if all(rule.denies for rule in own):
        return NO_SIGHT
    limits = user.limits
    rules = (*own, *(more if limits is None else limits.narrowed(more)))
    views = {row.name: _view(row, rules, user) for row in _rows(user, own)}
    return Sight(views=views, rules=rules, only=limits.patterns if limits else ())


def _rows(user: User, rules: tuple[Rule, ...]) -> list[Listed]:
    """The workspaces that grants are about, with their tasks where rights on them can differ."""
    known: list[Listed] | None = getattr(user, "_stroem_workspaces", None)
    if known is None:
        differ = Q(task_list__is_kept=True)
        if in_part := _regex(rule for rule in rules if not rule.is_whole):
            differ |= Q(name__regex=in_part)
        noted = Coalesce("task_list__tasks", Value({}, JSONField()))
        stored = Case(When(differ, then=noted), output_field=JSONField())
        given = Workspace.objects.filter(name__regex=_regex(r for r in rules if not r.denies))
        rows = given.annotate(stored=stored).order_by("name")
        known = [
            Listed(*row)
            for row in rows.values_list("pk", "name", "stored")
            if user.limits is None or user.limits.covers(row[1])
        ]
        setattr(user, "_stroem_workspaces", known)  # noqa: B010
    return known


def _view(row: Listed, rules: tuple[Rule, ...], user: User) -> View:
    if row.stored is None:
        return View(row.id, decide(rules, NOBODY, Ground(row.name)))
    is_kept = any(access for _, access in row.stored.values())
    person = user.holder if is_kept else NOBODY  # who it is matters to `access:` only
    near = [rule for rule in rules if matches(rule.workspaces, row.name)]
    own = decide(near, person, ground_of(row, WHOLE))
    tasks = {task: decide(near, person, ground_of(row, task)) for task in row.stored if task}
    if WHOLE not in row.stored:  # nothing is known of it yet
        return View(row.id, NO_RIGHTS, tasks, NO_RIGHTS)
    return View(row.id, own, tasks, own.intersection(*tasks.values()))


def ground_of(row: Listed, task: str) -> Ground:
    """What is decided about a task of a workspace, or about the workspace itself."""
    folder, access = (row.stored or {}).get(task, (None, {}))
    path = path_of(task, folder) if task else None
    return Ground(row.name, path, _access_of(access) if access else NO_ACCESS)


def _access_of(stored: Mapping[str, Any]) -> Access:
    return {
        Right(right): [Keepers(tuple(one["users"]), tuple(one["groups"])) for one in circles]
        for right, circles in stored.items()
    }


def workspaces_of(user: Person, right: Right = Right.SEE) -> QuerySet[Workspace]:
    """Those with anything to see for `user`, or with `right` on the whole."""
    return Workspace.objects.filter(sight_of(user).workspaces(right))


def insist(rights: Rights, needed: Right, refusal: str = "") -> None:
    """Raises PermissionDenied with a sentence that names what is missing."""
    if needed not in rights:
        raise PermissionDenied(refusal or REFUSALS.get(needed, f"The right '{needed}' is missing"))
