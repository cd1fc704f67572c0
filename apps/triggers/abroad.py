"""Triggers that watch the jobs of another workspace: whether its files let them, and whether the
workspaces would start each other for ever."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from apps.triggers.models import Trigger
from apps.workspaces.models import Workspace
from apps.workspaces.revisions import definition_of
from engine.spec import follows
from engine.spec.exports import is_elsewhere
from engine.spec.model import EVERYBODY, Problem
from engine.spec.model import Trigger as Definition
from engine.spec.model import Workspace as Contents
from engine.spec.problems import did_you_mean

Node = tuple[str, str]  # a workspace and one of its tasks


def watched(trigger: Definition) -> str:
    """WORKSPACE/TASK that the trigger watches, if it is another workspace's; else empty."""
    watches = trigger.watches
    return "/".join(watches) if watches and watches[0] else ""


def _node(watched: str) -> Node:
    workspace, _, task = watched.partition("/")
    return workspace, task


class Borders:
    """What the workspaces export to each other now; `fresh`: new files of one of them."""

    def __init__(self, fresh: tuple[str, Contents] | None = None) -> None:
        self._contents: dict[str, Contents | None] = dict([fresh] if fresh else [])
        self._watching: dict[Node, set[Node]] | None = None
        self._fresh = fresh

    def contents(self, workspace: str) -> Contents | None:
        if workspace not in self._contents:
            rows = Workspace.objects.filter(name=workspace, current__isnull=False)
            current = rows.values_list("current_id", flat=True).first()
            self._contents[workspace] = definition_of(current) if current is not None else None
        return self._contents[workspace]

    def refusal(self, workspace: str, watched: str, starts: str) -> str:
        """Why a trigger of this workspace does not fire when such a job ends; empty if it does.
        Whether there is another workspace, or a task in it, is nothing that it tells."""
        owner, task = _node(watched)
        if not self._is_granted(workspace, (owner, task)):
            contents = self.contents(owner)
            exported = contents.exports.job_ends if contents else {}
            hint = did_you_mean(
                task, [name for name in exported if exported[name].reaches(workspace)]
            )
            return (
                f"no workspace '{owner}' exports the ends of task '{task}' to workspace"
                f" '{workspace}'{hint}, so no job starts; its files need"
                f" `exports: {{job_ends: {{{task}: {{to: [{workspace}]}}}}}}`"
            )
        if self._leads((workspace, starts), (owner, task)):
            return (
                f"task '{starts}' leads to the end of task '{task}' of workspace '{owner}' again,"
                " so no job starts: they would never come to rest"
            )
        return ""

    def _is_granted(self, workspace: str, watched: Node) -> bool:
        contents = self.contents(watched[0])
        export = contents.exports.job_ends.get(watched[1]) if contents else None
        return export is not None and export.reaches(workspace)

    def _leads(self, start: Node, end: Node) -> bool:
        """Whether the jobs of one task set off jobs of the other."""
        reached, waiting = set[Node](), [start]
        while waiting:
            node = waiting.pop()
            if node == end:
                return True
            if node not in reached:
                reached.add(node)
                waiting += self._after(node)
        return False

    def _after(self, node: Node) -> Iterator[Node]:
        workspace, task = node
        contents = self.contents(workspace)
        if contents is not None:
            yield from ((workspace, name) for name in follows.after(contents, task))
            yield from self._through_borrowed(workspace, contents, task)
        yield from (other for other in self._watchers()[node] if self._is_granted(other[0], node))

    def _through_borrowed(self, workspace: str, contents: Contents, task: str) -> Iterator[Node]:
        """The tasks of other workspaces whose jobs its steps start."""
        steps = contents.tasks[task].flow.values() if task in contents.tasks else ()
        for step in steps:
            if is_elsewhere(step.action, contents.actions, workspace):
                owner, _, name = step.action.partition(".")
                lender = self.contents(owner)
                export = lender.exports.actions.get(name) if lender is not None else None
                if lender is not None and export is not None and export.reaches(workspace):
                    action = lender.actions[name]
                    tools = [str(tool["task"]) for tool in action.tools if "task" in tool]
                    started = [action.task, *tools] if action.task else tools
                    yield from ((owner, one) for one in started)

    def _watchers(self) -> dict[Node, set[Node]]:
        """By node, the tasks of other workspaces that start when one of its jobs ends."""
        if self._watching is None:
            self._watching = defaultdict(set)
            rows = Trigger.objects.exclude(watched="").filter(is_listed=True, is_enabled=True)
            if self._fresh is not None:
                rows = rows.exclude(workspace__name=self._fresh[0])
                for trigger in self._fresh[1].triggers.values():
                    if trigger.enabled and (there := watched(trigger)):
                        self._watching[_node(there)].add((self._fresh[0], trigger.starts))
            for there, workspace, task in rows.values_list("watched", "workspace__name", "task"):
                self._watching[_node(there)].add((workspace, task))
        return self._watching


def refusal_of(trigger: Trigger) -> str:
    """Why a trigger that watches another workspace does not fire now; empty if it does."""
    return Borders().refusal(trigger.workspace.name, trigger.watched, trigger.task)


def doubts(workspace: str, contents: Contents) -> Iterator[Problem]:
    """Warnings about triggers that wait for what nobody lets them hear, and about exports that
    nobody uses."""
    borders = Borders((workspace, contents))
    for name, trigger in contents.triggers.items():
        there = watched(trigger)
        why = borders.refusal(workspace, there, trigger.starts) if there else ""
        if why:
            yield Problem(trigger.place, "export", f"Trigger '{name}': {why}", "warning")
    yield from _unused(workspace, contents)


def _unused(workspace: str, contents: Contents) -> Iterator[Problem]:
    exports = contents.exports.job_ends
    rows = Trigger.objects.filter(watched__in=[f"{workspace}/{task}" for task in exports])
    used = set(rows.filter(is_listed=True).values_list("watched", "workspace__name"))
    for task, export in exports.items():
        for name in export.to:
            if name not in (EVERYBODY, workspace) and (f"{workspace}/{task}", name) not in used:
                message = (
                    f"Export of the ends of task '{task}': no trigger of a workspace '{name}'"
                    " watches them yet"
                )
                yield Problem(export.place, "export", message, "warning")
