"""Rules about names, about tasks and their steps, about the hooks of tasks and workspace, and about
the actions that these call: here, in libraries, or in other workspaces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from engine import dag, templating
from engine.plain import shorten
from engine.spec.checks_actions import limits_of
from engine.spec.draft import Draft, step_subject, task_subject
from engine.spec.exports import ELSEWHERE, is_elsewhere
from engine.spec.fields import HOOK_LISTS, SINGULAR
from engine.spec.model import Action, Hook, Place, Problem, Step
from engine.spec.problems import did_you_mean, error, warning

UNBUILT = "not-built"
_MOST_NAMES = 5
_MOST_TASK_SECONDS = 604_800
_ON_SERVER = ("task", "agent", "approval")
_LONGEST = 200
_INLINE = "_inline:"
_CONTEXT = ("input", "secret", "secrets", "each", "hook", "state", "global_state")
_NAMED_IN_ADDRESSES = (
    "actions", "tasks", "triggers", "connections", "connection_types", "mcp_servers",
    "slurm_schedulers",
)  # fmt: skip


def check_spelling(draft: Draft) -> Iterator[Problem]:
    """Names appear in URLs, logs and file names: no control characters, no '/', a limited
    length."""
    for section in _NAMED_IN_ADDRESSES:
        for name, named in draft.sections[section].items():
            wrong = _misspelling(name)
            if wrong:
                message = f"{SINGULAR[section]} name '{shorten(name)}' {wrong}"
                yield error(named.place, "name", message)
    for task, step in _step_names(draft):
        wrong = _misspelling(step)
        if wrong:
            yield error(
                draft.in_step(task, step), "name", f"{step_subject(task, step)} name {wrong}"
            )


def _misspelling(name: str) -> str | None:
    if not name or name != name.strip():
        return "must not be empty, or begin or end with a space"
    if len(name) > _LONGEST:
        return f"is longer than {_LONGEST} characters"
    if not name.isprintable():
        return "must not contain control characters"
    if "/" in name:
        return "must not contain '/': it becomes part of addresses"
    if name in (".", ".."):
        return "must not be '.' or '..': it becomes part of addresses"
    return None


def _step_names(draft: Draft) -> Iterator[tuple[str, str]]:
    for task_name, task in draft.workspace.tasks.items():
        for step in (*task.flow, *draft.broken_steps.get(task_name, ())):
            yield task_name, step


def check_reserved_names(draft: Draft) -> Iterator[Problem]:
    for task, step in _step_names(draft):
        if (
            step != "_server"
            and not set("[]") & set(step)
            and step.replace("-", "_") not in _CONTEXT
        ):
            continue
        subject, place = step_subject(task, step), draft.in_step(task, step)
        if "[" in step or "]" in step:
            yield error(
                place,
                "reserved-name",
                f"{subject} name must not contain '[' or ']' (reserved for for_each instances)",
            )
        if step == "_server":
            yield error(
                place, "reserved-name", f"{subject} name is reserved for the server's own log lines"
            )
        if step.replace("-", "_") in _CONTEXT:
            message = (
                f"{subject} is shadowed by '{step}' in templates: its output cannot be read there;"
                " rename it"
            )
            yield warning(place, "reserved-name", message)
    for section, prefix in (("actions", _INLINE), ("tasks", "_hook:"), ("tasks", "_check:")):
        for name, named in draft.sections[section].items():
            if name.startswith(prefix):
                message = (
                    f"{SINGULAR[section]} name '{shorten(name)}' begins with '{prefix}', which is"
                    " reserved"
                )
                yield error(named.place, "reserved-name", message)


def check_collisions(draft: Draft) -> Iterator[Problem]:
    """'-' becomes '_' in templates and tool names, so two names may collide."""
    for section, things, lost in (
        ("tasks", "Tasks", "agent tool names"),
        ("mcp_servers", "MCP servers", "tool name prefixes"),
    ):
        for first, second, same in collisions(draft.sections[section], templating.context_name):
            message = (
                f"{things} '{shorten(first)}' and '{second}' have the same normalized name"
                f" '{shorten(same)}' — {lost} would collide. Rename one to avoid ambiguity."
            )
            yield error(draft.at(section, second), "name-collision", message)
    for task_name, task in draft.workspace.tasks.items():
        for first, second, same in collisions(task.flow, templating.context_name):
            message = (
                f"{task_subject(task_name)} steps '{shorten(first)}' and '{second}' have the same"
                f" normalized name '{shorten(same)}' — templates could not tell their outputs"
                " apart. Rename one."
            )
            yield error(draft.in_step(task_name, second), "name-collision", message)


def collisions(
    names: Iterable[str], become: Callable[[str], str]
) -> Iterator[tuple[str, str, str]]:
    """(first, second, what both become) of names that cannot be told apart."""
    seen: dict[str, str] = {}
    for name in names:
        same = become(name)
        if seen.setdefault(same, name) != name:
            yield seen[same], name, same


def _steps(draft: Draft) -> Iterator[tuple[str, str, Step, Action | None]]:
    """(task, name, step, its action if known) of every step."""
    for task_name, task in draft.workspace.tasks.items():
        for step_name, step in task.flow.items():
            yield task_name, step_name, step, draft.workspace.actions.get(step.action)


def check_step_actions(draft: Draft) -> Iterator[Problem]:
    if not draft.is_complete:
        return
    for task, name, step, _ in _steps(draft):
        if not draft.has_action(step.action):
            place = draft.in_step(task, name, "action")
            yield from _missing_action(draft, step_subject(task, name), step.action, place)


def _missing_action(draft: Draft, subject: str, action: str, place: Place) -> Iterator[Problem]:
    owner, dot, rest = action.partition(".")
    shown = shorten(action)
    if dot and owner == draft.name:
        known = draft.has_action(rest)
        message = f"action '{shown}': " + (
            f"within workspace '{owner}' write '{shorten(rest)}'"
            if known
            else f"workspace '{owner}' has no action '{shorten(rest)}'"
        )
        yield error(place, "missing-action", f"{subject}: {message}")
    elif draft.has("libraries", owner):
        if owner in draft.fetched:
            own = [name for name in draft.sections["actions"] if name.startswith(f"{owner}.")]
            hint = did_you_mean(action, own)
            message = f"{subject}: library '{owner}' has no action '{shorten(rest)}'{hint}"
            yield error(place, "missing-action", message)
    elif not dot:  # whether other workspaces have theirs is checked where all of them are
        hint = did_you_mean(action, draft.sections["actions"])
        yield error(
            place, "missing-action", f"{subject} references non-existent action '{shown}'{hint}"
        )


def check_actions_of_others(draft: Draft) -> Iterator[Problem]:
    """Whether another workspace exports an action is known where all workspaces are."""
    for task, name, step, _ in _steps(draft):
        if _is_foreign(draft, step.action):
            message = (
                f"{step_subject(task, name)} uses action '{shorten(step.action)}' of another"
                " workspace: only a server can say whether its files export it"
            )
            yield warning(draft.in_step(task, name, "action"), ELSEWHERE, message)


def _is_foreign(draft: Draft, action: str) -> bool:
    return (
        not draft.has_action(action)
        and not draft.has("libraries", action.partition(".")[0])
        and is_elsewhere(action, (), draft.name)
    )


def check_dependencies(draft: Draft) -> Iterator[Problem]:
    for task_name, task in draft.workspace.tasks.items():
        known = {*task.flow, *draft.broken_steps.get(task_name, ())}
        for name, step in task.flow.items():
            for needed in step.depends_on:
                if needed in known:
                    continue
                message = (
                    f"{step_subject(task_name, name)} depends on non-existent step"
                    f" '{shorten(needed)}'{did_you_mean(needed, known)}"
                )
                at = step.depends_on.index(needed)
                place = draft.in_step(task_name, name, "depends_on", at)
                yield error(place, "missing-step", message)


def check_cycles(draft: Draft) -> Iterator[Problem]:
    for task_name, task in draft.workspace.tasks.items():
        cycle = dag.find_cycle({name: step.depends_on for name, step in task.flow.items()})
        if cycle:
            shown = " -> ".join(shorten(name) for name in _abridge(cycle))
            message = (
                f"{task_subject(task_name)} has invalid DAG: Cycle detected in workflow DAG:"
                f" {shown} (each depends on the next; remove one of these dependencies)"
            )
            yield error(draft.in_step(task_name, cycle[0], "depends_on"), "cycle", message)


def _abridge(cycle: tuple[str, ...]) -> tuple[str, ...]:
    return cycle if len(cycle) <= 12 else (*cycle[:6], "…", *cycle[-5:])


def check_loops(draft: Draft) -> Iterator[Problem]:
    for task, name, step, _ in _steps(draft):
        subject = step_subject(task, name)
        if step.for_each is None:
            for key, is_set in (
                ("sequential", step.sequential),
                ("max_parallel", step.max_parallel is not None),
            ):
                if is_set:
                    value = "true" if key == "sequential" else step.max_parallel
                    message = f"{subject} has {key}: {value} but no for_each — {key} has no effect"
                    yield warning(draft.in_step(task, name, key), "for-each", message)
        elif step.sequential and step.max_parallel not in (None, 1):
            message = f"{subject} is sequential — max_parallel has no effect"
            yield warning(draft.in_step(task, name, "max_parallel"), "for-each", message)


def check_step_limits(draft: Draft) -> Iterator[Problem]:
    for task, name, step, action in _steps(draft):
        action_type = action.type if action else ""
        at = partial(draft.in_step, task, name)
        yield from limits_of(step_subject(task, name), step, action_type, at)


def check_task_limits(draft: Draft) -> Iterator[Problem]:
    for task_name, task in draft.workspace.tasks.items():
        if task.timeout and task.timeout.seconds > _MOST_TASK_SECONDS:
            message = (
                f"{task_subject(task_name)} timeout {task.timeout.seconds:.0f}s exceeds maximum of "
                f"{_MOST_TASK_SECONDS}s (7d)"
            )
            yield error(draft.at("tasks", task_name, "timeout"), "timeout", message)
        is_serial = task.state is not None and task.state.on_conflict == "serialize"
        if is_serial and (task.max_concurrent_jobs or 1) > 1:
            message = (
                f"{task_subject(task_name)} max_concurrent_jobs has no effect: with 'on_conflict:"
                " serialize' of its state, its jobs run one after the other"
            )
            place = draft.at("tasks", task_name, "max_concurrent_jobs")
            yield warning(place, "no-effect", message)


def check_worker_keys(draft: Draft) -> Iterator[Problem]:
    """`tags`, `on_worker_lost` and `scheduler` concern workers, which some steps never reach."""
    for task, name, step, action in _steps(draft):
        if action is not None and action.type != "script" and step.umask is not None:
            message = (
                f"{step_subject(task, name)} has 'umask' but its action is type '{action.type}'"
                " (only script actions have one)"
            )
            yield error(draft.in_step(task, name, "umask"), "forbidden-field", message)
        if action is None or action.type not in _ON_SERVER:
            continue
        for key, is_set in (
            ("tags", bool(step.tags)),
            ("on_worker_lost", step.on_worker_lost is not None),
            ("scheduler", step.scheduler is not None),
        ):
            if is_set:
                message = (
                    f"{step_subject(task, name)} has '{key}' but its action is type '{action.type}'"
                    " (steps of this type never reach a worker)"
                )
                yield error(draft.in_step(task, name, key), "forbidden-field", message)
        if step.priority:
            message = (
                f"{step_subject(task, name)} 'priority' has no effect: its action is type"
                f" '{action.type}' (steps of this type never reach a worker)"
            )
            yield warning(draft.in_step(task, name, "priority"), "no-effect", message)


def check_step_schedulers(draft: Draft) -> Iterator[Problem]:
    for task, name, step, _ in _steps(draft):
        known = {*draft.sections["slurm_schedulers"], *draft.workspace.tasks[task].slurm_schedulers}
        if step.scheduler is not None and step.scheduler not in known and draft.is_complete:
            message = (
                f"{step_subject(task, name)} references non-existent slurm scheduler"
                f" '{shorten(step.scheduler)}'{did_you_mean(step.scheduler, known)}"
            )
            yield error(draft.in_step(task, name, "scheduler"), "missing-scheduler", message)


def check_tolerated_approvals(draft: Draft) -> Iterator[Problem]:
    """A rejected approval that may fail lets its dependents run: probably a mistake."""
    for task_name, task in draft.workspace.tasks.items():
        dependents = dag.invert({name: step.depends_on for name, step in task.flow.items()})
        for name, step in task.flow.items():
            action = draft.workspace.actions.get(step.action)
            if not step.continue_on_failure or action is None or action.type != "approval":
                continue
            for follower in dependents[name]:
                if task.flow[follower].when is None:
                    message = (
                        f"{step_subject(task_name, follower)} has no 'when', and runs even if"
                        f" approval '{shorten(name)}' is rejected or times out, because that has"
                        " continue_on_failure"
                    )
                    yield warning(draft.in_step(task_name, follower), "tolerated-approval", message)


def _hooks(draft: Draft) -> Iterator[tuple[str | None, str, Hook]]:
    """(task or None, the hook's name in messages, hook)."""
    for event in HOOK_LISTS:
        for index, hook in enumerate(getattr(draft.workspace.hooks, event)):
            yield None, f"Workspace {event}[{index}]", hook
    for task_name, task in draft.workspace.tasks.items():
        for event in HOOK_LISTS:
            for index, hook in enumerate(getattr(task.hooks, event)):
                yield task_name, f"{task_subject(task_name)} {event}[{index}]", hook


def check_hooks(draft: Draft) -> Iterator[Problem]:
    if not draft.is_complete:
        return
    for _, subject, hook in _hooks(draft):
        if hook.action and not draft.has_action(hook.action):
            yield from _missing_action(draft, subject, hook.action, hook.place)


def check_hooks_of_others(draft: Draft) -> Iterator[Problem]:
    """One warning for the workspace, at the first place."""
    found = [hook for _, _, hook in _hooks(draft) if _is_foreign(draft, hook.action)]
    if found:
        names = list(dict.fromkeys(hook.action for hook in found))
        shown = ", ".join(shorten(name, 40) for name in names[:_MOST_NAMES])
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        message = (
            "this version does not carry out hooks with actions of other workspaces, with which no"
            f" job starts: {shown}{more}"
        )
        first = min((hook.place for hook in found), key=lambda p: (p.file, p.line, p.column))
        yield warning(first, UNBUILT, message)


def check_self_references(draft: Draft) -> Iterator[Problem]:
    """No step and no hook of a task may start the same task again."""
    for task, name, step, action in _steps(draft):
        if action and action.task == task:
            key = "task" if step.action in draft.inline else "action"
            place = draft.in_step(task, name, key)
            yield _self_reference(task, f"step '{shorten(name)}'", step.action, place)
    for owner, subject, hook in _hooks(draft):
        action = draft.workspace.actions.get(hook.action)
        if owner is not None and action and action.task == owner:
            where = subject.removeprefix(f"{task_subject(owner)} ")
            yield _self_reference(owner, where, hook.action, hook.place)


def _self_reference(task: str, where: str, action: str, place: Place) -> Problem:
    how = "" if action.startswith(_INLINE) else f"uses action '{shorten(action)}' which "
    message = f"{task_subject(task)} {where} {how}references back to the same task (self-reference)"
    return error(place, "self-reference", message)


def check_endless_nesting(draft: Draft) -> Iterator[Problem]:
    """Tasks that start each other in a cycle end at the nesting limit, unless a `when` stops
    them."""
    calls: dict[str, list[str]] = {task: [] for task in draft.workspace.tasks}
    for task, _, step, action in _steps(draft):
        if action and action.task and action.task != task and step.when is None:
            calls[task].append(action.task)
    ring = dag.find_cycle(calls)
    if ring:
        shown = " -> ".join(shorten(name) for name in _abridge(ring))
        message = f"Tasks start each other endlessly: {shown}; give a step in between a 'when'"
        yield warning(draft.at("tasks", ring[0]), "self-reference", message)


CHECKS = (
    check_spelling,
    check_reserved_names,
    check_collisions,
    check_step_actions,
    check_actions_of_others,
    check_dependencies,
    check_cycles,
    check_loops,
    check_step_limits,
    check_task_limits,
    check_worker_keys,
    check_step_schedulers,
    check_tolerated_approvals,
    check_hooks,
    check_hooks_of_others,
    check_self_references,
    check_endless_nesting,
)
