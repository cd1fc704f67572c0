"""`manage.py plan`: what a task would do with these inputs, without running anything."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from console.operator_command import TypedCommand
from console.screen import clean
from console.task_choice import pick_task
from console.typed_input import add_input_options, read_inputs
from console.workspace_path import read_path
from engine.errors import AuthorError
from engine.forecast import ELSEWHERE, Outlook, StepForecast, forecast, whence
from engine.plain import shorten
from engine.spec.model import Workspace
from engine.spec.tags import tag_set_key

_LONGEST_VALUE = 100


class Command(TypedCommand):
    help = (
        "Show what a task would do, without running it: steps in order, conditions and inputs as"
        " far as they are known, and where each step would run. Exit code 0: planned, 2: an input"
        " or a file is wrong."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "path", help="the workspace's folder, or one workflow file (YAML or Torc)"
        )
        parser.add_argument("task", nargs="?", help="name of the task; optional if there is one")
        add_input_options(parser)
        parser.add_argument(
            "--workspace",
            metavar="NAME",
            help="also name the live workers that would serve a workspace of this name, and the"
            " connections that its database has in place of those of the files; needs the database",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object per step")

    def act(self, **options: Any) -> int:
        _, loaded = read_path(options["path"])
        if loaded.workspace is None:
            raise AuthorError("\n".join(map(str, loaded.errors)))
        task = pick_task(loaded.workspace, options["task"], options["path"])
        given = read_inputs(options["input"], options["input_file"])
        steps = forecast(loaded.workspace, task, given)
        takers = self._takers(steps, options["workspace"])
        notes = self._notes(loaded.workspace, options["workspace"])
        if options["json"]:
            for step in steps:
                shown = asdict(step) | ({"workers": takers[step.name]} if takers else {})
                self.stdout.write(json.dumps(shown, ensure_ascii=False))
            for note in notes:
                self.stderr.write(clean(note))
            return 0
        for note in notes:
            self.stdout.write(clean(note))
        for line in _lines(task, steps, takers):
            self.stdout.write(clean(line))
        return 0

    def _takers(self, steps: Sequence[StepForecast], workspace: str | None) -> dict[str, list[str]]:
        """Step -> names of the live workers that could run it; empty without a workspace."""
        if workspace is None:
            return {}
        return {
            step.name: self.platform.takers(tag_set_key(step.tags), workspace) if step.tags else []
            for step in steps
        }

    def _notes(self, definition: Workspace, workspace: str | None) -> list[str]:
        """What the database has in place of connections of the files."""
        return self.platform.connection_notes(workspace, definition) if workspace else []


def _lines(task: str, steps: Sequence[StepForecast], takers: dict[str, list[str]]) -> Iterator[str]:
    yield f"Plan of '{task}'; nothing was run."
    width = max(len(step.name) for step in steps)
    for step in steps:
        yield ""
        yield f"{step.name:<{width}}  {step.outlook:<7}  {_work(step)}"
        if step.depends_on:
            yield f"    after {', '.join(step.depends_on)}"
        if step.because:
            yield f"    {step.because}"
        if step.outlook in (Outlook.SKIPPED, Outlook.FAILS):
            continue
        for name, value in step.input.items():
            text = json.dumps(value, ensure_ascii=False)
            yield f"    {name} = {shorten(text, _LONGEST_VALUE)}"
        for name, needed in step.unknown.items():
            yield f"    {name}: {whence(needed)}"
        if step.name in takers and step.tags:
            yield f"    workers: {', '.join(takers[step.name]) or 'none is alive that could'}"


def _work(step: StepForecast) -> str:
    """What it does and where, in a few words."""
    if step.calls:
        words = f"starts task {step.calls}"
    elif step.type in ("approval", "agent", ELSEWHERE):
        words = step.type
    else:
        where = "on the worker" if step.runner == "local" else f"in {step.image or step.runner}"
        words = f"{step.type} {where}, tags {', '.join(step.tags)}"
    if step.is_loop:
        words += f", for each of {step.items or 'an unknown number of'} items"
    return words
