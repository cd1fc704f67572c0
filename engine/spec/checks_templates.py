"""Rules about templates anywhere: they parse, what they read exists, and they do not paste input
into code. Texts that look like templates where none is rendered, for the rules about those places.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import partial

from engine import dag, templating
from engine.plain import shorten
from engine.spec.actions import LANGUAGES
from engine.spec.checks_reads import Reads
from engine.spec.draft import Draft, step_subject, task_subject
from engine.spec.inputs import variable_of
from engine.spec.model import Action, Place, Problem, Step, Task
from engine.spec.problems import did_you_mean, error, warning
from engine.spec.sites import Site, find_sites

_BUDGET_PER_FILE = 15_000  # letters in tags, about a third of a second of work
_MOST_STEPS = 2000  # in a larger flow, reads of outputs that may not exist yet go unchecked
_SECRETS = ("secret", "secrets")
_STATE = ("state", "global_state")
_ROOTS = {
    "hook": ("hook", *_SECRETS),
    "default": _SECRETS,
    "tool": ("call", "input"),
    "workspace": _SECRETS,
    "scheduler": ("scheduled_at", "previous_at", "trigger", *_SECRETS),
    "webhook": ("body", "headers", "method", "query", "delivery_id", "trigger", *_SECRETS),
    "event_source": ("event", "trigger", *_SECRETS),
    "job": ("job", "trigger", *_SECRETS),
}
_ANYWHERE = frozenset({"input", "secret", "secrets", "each", "state", "global_state", "hook"})
_CONDITIONS = ("when", "filter", "tool approval")
_PROSE = ("message", "prompt", "system_prompt")
_JSON = ("json", "json_encode")
_SAFE_TYPES = ("integer", "number", "boolean", "date", "datetime")
_NO_TEMPLATE = "; if this is not a template, put it between {% raw %} and {% endraw %}"
_FILTERS = {"shell": "sh", "python": "py", "javascript": "json", "typescript": "json", "go": "json"}


class _Reach:
    """Which steps of a task have certainly ended before a given step starts; computed once, on
    demand."""

    def __init__(self, flow: Mapping[str, Step]) -> None:
        self.flow = flow
        self.by_name = {templating.context_name(step): step for step in flow}
        self._graph = {name: step.depends_on for name, step in flow.items()}
        self._before: dict[str, frozenset[str]] = {}

    def is_before(self, earlier: str, later: str) -> bool:
        if earlier in self._graph[later] or len(self.flow) > _MOST_STEPS:
            return True
        if later not in self._before:
            self._before[later] = dag.closure(self._graph, self._graph[later])
        return earlier in self._before[later]


def check_templates(draft: Draft) -> Iterator[Problem]:
    """All rules in one walk, so that each text is parsed once and the work stays bounded."""
    budget = _BUDGET_PER_FILE * max(draft.files, 1)
    understood: set[str] = set()
    reaches: dict[str, _Reach] = {}
    reads = Reads(draft)
    for site in find_sites(draft):
        if site.text not in understood:
            budget -= site.price
            if budget < 0:
                yield _too_many(draft, site)
                break
            understood.add(site.text)
        wrong = templating.check(site.text)
        if wrong:
            yield _syntax_problem(site, wrong)
            continue
        if site.what in _CONDITIONS:
            yield from _check_condition(site)
        elif site.what not in _PROSE:
            yield from _check_dollar(site)
        if site.task and site.task not in reaches:
            reaches[site.task] = _Reach(draft.workspace.tasks[site.task].flow)
        yield from _check_names(draft, site, reaches)
        yield from reads.check(site)
    for name, subject, action in draft.actions():
        if not draft.means(name, "language", LANGUAGES):
            continue
        if all(text in understood for text in (action.script, action.cmd) if text and "{" in text):
            yield from _check_splices(draft, name, subject, action, reads)
        if budget >= 0:
            yield from _check_arguments(draft, name, subject, action)


def _too_many(draft: Draft, site: Site) -> Problem:
    message = (
        "there are too many templates to check: those from here on are unchecked; move logic into"
        " scripts"
    )
    return (error if draft.is_strict else warning)(site.place, "too-many-templates", message)


def _syntax_problem(site: Site, wrong: str) -> Problem:
    if site.what in ("when", "for_each"):
        message = (
            f"{site.subject} has invalid {site.what} expression '{shorten(site.text)}': {wrong}"
        )
    else:
        is_code = site.what in ("script", "cmd", "args", "manifest") or site.what.startswith("env ")
        is_clear = any(words in wrong for words in ("raw %}", "there is no filter", "now()"))
        hint = _NO_TEMPLATE if is_code and not is_clear else ""
        message = f"{site.subject} has invalid {site.what} template: {wrong}{hint}"
    return error(site.place, "template", message)


def _check_condition(site: Site) -> Iterator[Problem]:
    """Text is true: a `when` without braces nearly always, and one with text around its tags."""
    if site.has_template:
        if templating.prints_text(site.text):
            message = (
                f"{site.subject} {site.what} '{shorten(site.text)}' is always true, because it has"
                " text outside of its tags: write the whole condition within one {{ … }}"
            )
            yield warning(site.place, "literal-when", message)
    elif site.what != "tool approval" and site.text.strip().lower() not in (
        "true",
        "false",
        "",
        "0",
        "1",
        "null",
        "none",
    ):
        message = (
            f"{site.subject} {site.what} '{shorten(site.text)}' is always true: "
            f"write {{{{ {shorten(site.text.strip(), 40)} }}}} to have it evaluated"
        )
        yield warning(site.place, "literal-when", message)


def _check_dollar(site: Site) -> Iterator[Problem]:
    """`${{ x }}` is how another system writes `{{ x }}`: here, a value of 5 becomes `$5`."""
    if "${{" in site.text:
        pasted = (
            shorten(splice.text, 40)
            for splice in templating.splices(site.text)
            if "$" + splice.text in site.text
        )
        if (tag := next(pasted, None)) is not None:
            message = (
                f"{site.subject} {site.what}: the '$' before {tag} stays before its value: write"
                f" {tag} alone, or {{{{ '$' }}}}{tag} if it is meant"
            )
            yield warning(site.place, "dollar", message)


def _check_names(draft: Draft, site: Site, reaches: Mapping[str, _Reach]) -> Iterator[Problem]:
    names = sorted(templating.references(site.text).names)
    if site.task:
        if not draft.broken_steps.get(site.task):
            for name in names:
                yield from _check_step_name(site, name, reaches[site.task])
        return
    if site.reader == "secret" and names:
        message = (
            f"{site.subject} reads '{shorten(names[0])}', but secrets are read before anything else"
            " is known: write the value, or a reference such as ref+env://NAME"
        )
        yield error(site.place, "unknown-name", message)
    known = _ROOTS.get(site.reader, ())
    for name in names if known else ():
        if name not in known:
            known = tuple(root for root in known if root != "secrets")
            there = _listed(known)
            message = (
                f"{site.subject} {site.what} reads '{shorten(name)}', but only {there} known here"
            )
            yield warning(site.place, "unknown-name", message + did_you_mean(name, known))


def _listed(names: Sequence[str]) -> str:
    *first, last = (f"'{name}'" for name in names)
    return f"{', '.join(first)} and {last} are" if first else f"{last} is"


def _check_step_name(site: Site, name: str, reach: _Reach) -> Iterator[Problem]:
    reads = f"{site.subject} {site.what} reads"
    is_loop = reach.flow[site.step].for_each is not None
    if name == "each" and is_loop and site.what in ("when", "for_each"):
        message = f"{reads} 'each', but is evaluated once, before there are items"
        yield warning(site.place, "unknown-name", message)
        return
    known = ("input", "secret", *_STATE, *(("each",) if is_loop else ()))
    if name in (*known, "secrets"):
        return
    if name == "each":
        message = f"{reads} 'each', which exists only in steps with for_each"
        yield warning(site.place, "unknown-name", message)
    elif name not in reach.by_name:
        hint = did_you_mean(name, (*reach.by_name, *known))
        yield warning(
            site.place,
            "unknown-name",
            f"{reads} '{shorten(name)}', which is not a step of the task{hint}",
        )
    elif not reach.is_before(reach.by_name[name], site.step):
        step = reach.by_name[name]
        if step == site.step:
            message = f"{reads} the step's own output, which does not exist before it has run"
        else:
            message = (
                f"{reads} step '{shorten(step)}', which may not have run yet: add it to depends_on"
            )
        yield warning(site.place, "unordered-read", message)


def _check_splices(
    draft: Draft, name: str, subject: str, action: Action, reads: Reads
) -> Iterator[Problem]:
    """Values pasted into code: the caller's text would be executed."""
    complain = error if draft.is_strict else warning
    for key, text, language in (
        ("script", action.script, action.language or "shell"),
        ("cmd", action.cmd, "shell"),
    ):
        for splice in templating.splices(text) if text else ():
            pasted = sorted(path for path in splice.sources if not _is_trusted(path, action))
            if not pasted or splice.is_quoted_for(language):
                continue
            shown = shorten(" ".join(splice.text.split()), 40)
            where = f" (line {splice.line})" if text and "\n" in text.strip() else ""
            message = (
                f"{subject} {key}{where}: {shown} is pasted into {language} code, so anyone who"
                " sets it can run code"
            )
            yield complain(
                draft.in_action(name, key),
                "unsafe-template",
                f"{message}; {_advise(splice, language, pasted, reads.inputs_of(name))}",
            )


def _is_trusted(path: tuple[str, ...], action: Action) -> bool:
    """Secrets come from the author; values of some types cannot carry code."""
    if path[:1] in (("secret",), ("secrets",)):
        return True
    field = action.input.get(path[1]) if path[:1] == ("input",) and len(path) > 1 else None
    return field is not None and field.type in _SAFE_TYPES and not field.multiple


def _advise(
    splice: templating.Splice, language: str, pasted: list[tuple[str, ...]], known: Container[str]
) -> str:
    needed = _FILTERS[language]
    fitting = (
        ("sh",)
        if language == "shell"
        else ("py", "json", "json_encode")
        if language == "python"
        else _JSON
    )
    if splice.filter in fitting:
        return "remove the quotes around it: the filter adds its own"
    first = pasted[0]
    if language == "shell" and first[:1] == ("input",) and len(first) > 1:
        declare = "" if first[1] in known else f"declare input '{shorten(first[1])}' and "
        return f"{declare}use \"${variable_of(first[1])}\" or the filter '{needed}'"
    return f"use the filter '{needed}', or read the file named by STROEM_INPUTS_FILE"


def _check_arguments(draft: Draft, name: str, subject: str, action: Action) -> Iterator[Problem]:
    """A secret among the arguments of a process is visible in process lists."""
    found: tuple[tuple[str, tuple[str, ...]], ...] = (
        ("args", action.args),
        ("cmd", (action.cmd,) if action.cmd else ()),
        ("command", action.command or ()),
        ("entrypoint", action.entrypoint or ()),
    )
    for key, texts in found:
        for text in texts:
            secrets = _secrets_in(text)
            if secrets:
                message = (
                    f"{subject} '{key}' holds secret '{shorten(secrets[0])}', which process lists"
                    " would show; pass it through 'env'"
                )
                yield warning(draft.in_action(name, key), "secret-argument", message)
                break


def _secrets_in(text: str) -> list[str]:
    read = templating.references(text)
    return sorted(
        ".".join(path[1:]) or "*" for path in read.paths if path[:1] in (("secret",), ("secrets",))
    )


def is_template(text: str, steps: Iterable[str] = ()) -> bool:
    """Whether the text reads what templates can read."""
    return not _ANYWHERE.union(steps).isdisjoint(templating.references(text).names)


def not_rendered(subject: str, text: str, place: Place, advice: str) -> Problem:
    message = f"{subject} '{shorten(text)}' is not rendered as a template: {advice}"
    return warning(place, "not-rendered", message)


def check_labels(draft: Draft) -> Iterator[Problem]:
    """What people see of actions, tasks and steps is the same for all jobs."""
    for name, subject, action in draft.actions():
        if name not in draft.inline:
            yield from _check_labels(subject, action, partial(draft.in_action, name))
    for task_name, task in draft.workspace.tasks.items():
        at = partial(draft.at, "tasks", task_name)
        yield from _check_labels(task_subject(task_name), task, at)
        for name, step in task.flow.items():
            at = partial(draft.in_step, task_name, name)
            yield from _check_labels(step_subject(task_name, name), step, at, task.flow)


def _check_labels(
    subject: str, owner: Action | Task | Step, at: Callable[..., Place], steps: Iterable[str] = ()
) -> Iterator[Problem]:
    for key in ("name", "description", "folder"):
        text = getattr(owner, "title" if key == "name" else key, None)
        if text and "{{" in text and is_template(text, map(templating.context_name, steps)):
            advice = "people see it as it is written, before there is a job"
            yield not_rendered(f"{subject} {key}", text, at(key), advice)


CHECKS = (check_templates, check_labels)
