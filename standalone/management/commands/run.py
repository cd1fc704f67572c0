"""`manage.py run`: run a task from a folder or file on a private platform that leaves nothing
behind."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from apps.workspaces.services import import_folder
from console import downloads
from console.follower import Follower, answer, show_result
from console.operator_command import TypedCommand
from console.port import JobResult
from console.screen import Screen
from console.task_choice import pick_task
from console.typed_input import add_input_options, read_inputs
from console.workspace_path import missing_files, read_path, workspace_name
from engine.errors import AuthorError, StroemError
from engine.lifecycle import JobStatus
from engine.plain import plain
from engine.spec.inputs import resolve
from engine.spec.model import Loaded, Workspace
from standalone.private_house import private_house
from standalone.programs import check_worker_file
from standalone.supervision.program import Child

_MOST_SHOWN = 10


class Command(TypedCommand):
    help = (
        "Run a task from a folder; needs no server, database or worker. "
        "Exit code 0: completed, 1: failed or cancelled, 2: could not be started."
    )
    interrupted_by = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "path", help="the workspace's folder, or one workflow file (YAML or Torc)"
        )
        parser.add_argument("task", nargs="?", help="name of the task; optional if there is one")
        add_input_options(parser)
        parser.add_argument(
            "--json",
            action="store_true",
            help="print the result as JSON in the last line of stdout, progress on stderr",
        )
        parser.add_argument(
            "--chdir",
            metavar="FOLDER",
            help="where the steps of a Torc file run (default: the file's folder)",
        )
        parser.add_argument(
            "--artifacts",
            metavar="FOLDER",
            type=Path,
            help="keep the files that the steps leave: in this folder, one inside it for each step",
        )
        parser.add_argument("--worker-config", metavar="FILE", help="a worker-config.yaml")

    def act(self, **options: Any) -> int:
        try:
            folder, loaded = read_path(options["path"])
            workspace = loaded.workspace
            if workspace is None:
                raise AuthorError("\n".join(map(str, loaded.errors)))
            task = pick_task(workspace, options["task"], options["path"])
            given = read_inputs(options["input"], options["input_file"])
            _check_inputs(workspace, task, given)
            check_worker_file(options["worker_config"])
            directory = _directory(workspace, task, folder, options["chdir"])
            _make_folder(options["artifacts"])
            self._mention_warnings(loaded, options["path"])
            has_agents = any(action.type == "agent" for action in workspace.actions.values())
            with private_house(options["worker_config"], has_agents=has_agents) as worker:
                job_id = self._start(folder, directory, task, given)
                screen = self.screen(sys.stderr if options["json"] else sys.stdout, options)
                result = self._watch(job_id, task, worker, screen, as_json=options["json"])
                self._keep_files(job_id, options["artifacts"])
        except KeyboardInterrupt:
            self.stderr.write("Interrupted: the run was stopped.")
            raise
        return 0 if result.status == JobStatus.COMPLETED else 1

    def _mention_warnings(self, loaded: Loaded, typed: str) -> None:
        left_out = [problem for problem in loaded.problems if problem.code == "left_out"]
        for problem in left_out[:_MOST_SHOWN]:
            self.stderr.write(str(problem))
        if len(left_out) > _MOST_SHOWN:
            self.stderr.write(f"{len(left_out) - _MOST_SHOWN} more files and folders are left out")
        if loaded.problems:
            number = f"{len(loaded.problems)} warning{'s' if len(loaded.problems) > 1 else ''}"
            self.stderr.write(
                f"{plain(typed)}: {number}; `manage.py validate {shlex.quote(typed)}` lists them."
            )

    def _start(self, folder: Path, directory: str, task: str, given: Mapping[str, Any]) -> UUID:
        name = workspace_name(folder)
        # by this process, which has just read them: a reader of their own takes a second to start
        if import_folder(name, folder, directory=directory).current is None:
            raise AuthorError(
                f"The files in {plain(folder)} have changed meanwhile and are no longer a valid"
                " workspace."
            )
        return self.platform.start(name, task, given, "run")

    def _watch(
        self, job_id: UUID, task: str, worker: Child, screen: Screen, *, as_json: bool
    ) -> JobResult:
        screen.line(f"{task}: job {job_id}")
        Follower(self.platform, job_id, screen).follow(is_stopped=worker.has_ended)
        if worker.has_ended():
            raise StroemError(f"The worker ended before the job did: {worker.last_words()}")
        result = show_result(self.platform, job_id, task, screen)
        if as_json:
            self.stdout.write(json.dumps(answer(self.platform, result), ensure_ascii=False))
            self.stdout.flush()
        return result

    def _keep_files(self, job_id: UUID, folder: Path | None) -> None:
        """Nothing of a run stays but what the caller wants."""
        found = self.platform.artifacts(job_id)
        if found and folder is None:
            number = "1 artifact" if len(found) == 1 else f"{len(found)} artifacts"
            self.stderr.write(f"{number} of this run will be gone: --artifacts FOLDER keeps them.")
            return
        for one, place in downloads.places(found, folder, is_all=True):
            downloads.download(self.platform, job_id, one, place)
            self.stderr.write(f"kept {plain(str(place))}")


def _make_folder(folder: Path | None) -> None:
    """Before the run: what a job has left is lost if there is no place for it afterwards."""
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(folder, os.W_OK | os.X_OK) else "permission denied"
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
    if reason:
        raise AuthorError(f"--artifacts {plain(str(folder))} cannot be written: {reason}.")


def _directory(workspace: Workspace, task: str, source: Path, typed: str | None) -> str:
    """Where the steps of a Torc task run; empty for the file's own folder."""
    found = workspace.tasks[task]
    if found.source_format != "torc":
        if typed is not None:
            raise AuthorError(
                f"--chdir is for Torc files; steps of task '{task}' run in their workspace."
            )
        return ""
    folder = source.parent if source.is_file() else (source / str(found.torc["file"])).parent
    chosen = Path(typed).expanduser().resolve() if typed is not None else folder
    if not chosen.is_dir():
        raise AuthorError(f"--chdir {typed} is not a folder.")
    missing = missing_files(found, chosen)
    if missing:
        raise AuthorError(
            f"Missing required files: {', '.join(missing[:20])} (looked for in {chosen})"
        )
    return "" if typed is None else str(chosen)


def _check_inputs(workspace: Workspace, task: str, given: Mapping[str, Any]) -> None:
    """Report wrong inputs before anything starts. Defaults are only evaluated with the job."""
    fields = {
        name: field
        if name in given or not field.has_default
        else replace(field, has_default=False, required=False)
        for name, field in workspace.tasks[task].input.items()
    }
    resolve(fields, given, {})
