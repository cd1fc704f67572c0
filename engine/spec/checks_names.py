"""Rules about names that people cannot tell apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from engine.look_alikes import composed
from engine.plain import shorten
from engine.spec.checks_flow import collisions
from engine.spec.draft import Draft, task_subject
from engine.spec.fields import SINGULAR
from engine.spec.model import Place, Problem
from engine.spec.problems import error


def check_compositions(draft: Draft) -> Iterator[Problem]:
    """Some editors and systems write `é` as one character, others as two: of two such names in one
    place, people would see one."""
    for section, entries in draft.sections.items():
        what = SINGULAR.get(section, section)
        yield from _alike(f"{what} names", entries, partial(draft.at, section))
    for name, task in draft.workspace.tasks.items():
        subject = task_subject(name)
        yield from _alike(f"{subject} steps", task.flow, partial(draft.in_step, name))
        place = partial(draft.at, "tasks", name, "input")
        yield from _alike(f"{subject} inputs", task.input, place)
    for name, action in draft.workspace.actions.items():
        place = partial(draft.in_action, name, "input")
        yield from _alike(f"Action '{shorten(name)}' inputs", action.input, place)


def _alike(what: str, names: Iterable[str], place: Callable[[str], Place]) -> Iterator[Problem]:
    for first, second, _ in collisions(names, composed):
        message = (
            f"{what} '{shorten(first)}' and '{shorten(second)}' differ only in how Unicode composes"
            " their letters; rename one, or write both alike"
        )
        yield error(place(second), "name-collision", message)


CHECKS = (check_compositions,)
