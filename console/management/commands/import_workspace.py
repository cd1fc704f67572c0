"""`manage.py import_workspace`: import a folder or git repository as a new revision if valid."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from console.operator_command import OperatorCommand
from console.port import Imported
from console.workspace_path import refuse_ordinary_file
from engine.errors import InputError
from engine.plain import plain

MOST_SHOWN = 10


class Command(OperatorCommand):
    help = (
        "Import a workspace, or update it. Exit code 1 if it has errors; the last good revision"
        " then stays in force."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="name of the workspace: letters, digits, - and _")
        parser.add_argument(
            "source", help="a folder, a Torc file, or the path or address of a git repository"
        )
        parser.add_argument("--ref", help="branch, tag or commit of a git repository")
        parser.add_argument(
            "--auth", help="credentials for git: an entry of `git_auth` in the settings"
        )
        parser.add_argument(
            "--chdir",
            metavar="FOLDER",
            help="where steps of Torc files run (default: the file's folder)",
        )

    def act(self, **options: Any) -> int:
        found = self._import(
            options["name"],
            options["source"],
            options["ref"] or "",
            options["auth"] or "",
            options["chdir"] or "",
        )
        for problem in found.problems:
            self.stderr.write(problem)
        if warning := self.platform.unserved(found.name):
            self.stderr.write(warning)
        if found.has_failed:
            stays = f"revision {found.revision} stays in force"
            in_force = stays if found.revision else "there is no earlier revision"
            self.stderr.write(f"{found.name} was not imported; {in_force}.")
            return 1
        self.stdout.write(f"{found.name}: revision {found.revision}")
        if found.tasks:
            more = len(found.tasks) - MOST_SHOWN
            rest = f" and {more} more" if more > 0 else ""
            self.stdout.write(f"tasks: {', '.join(found.tasks[:MOST_SHOWN])}{rest}")
            self.stdout.write(f"run one with: manage.py trigger {self._start_of(found)} --follow")
        return 0

    def _start_of(self, found: Imported) -> str:
        """What starts its first task, with the input that must be given."""
        name = found.tasks[0]
        lines = self.platform.tasks(found.name)
        inputs = next((line.inputs for line in lines if line.task_name == name), {})
        given = [f"--input {shlex.quote(key)}=…" for key, (_, needed) in inputs.items() if needed]
        return " ".join((found.name, shlex.quote(name), *given))

    def _import(self, name: str, source: str, ref: str, auth: str, chdir: str) -> Imported:
        folder = Path(source).expanduser()
        directory = str(Path(chdir).expanduser().resolve()) if chdir else ""
        if not source or (not folder.exists() and ":" not in source):  # an address has one
            reason = (
                f"there is nothing at '{plain(source)}': give a folder, a Torc file or a git"
                " repository"
            )
            raise InputError({"source": reason})
        is_git = not folder.is_file() and (bool(ref) or not folder.is_dir() or _is_bare(folder))
        if chdir and is_git:
            raise InputError({"chdir": "--chdir is for folders and Torc files, not for git"})
        for option, value in (("ref", ref), ("auth", auth)):
            if value and not is_git:
                what = "file" if folder.is_file() else "folder"
                reason = f"--{option} is for git repositories; this is a {what}"
                raise InputError({option: reason})
        if folder.is_file():
            refuse_ordinary_file(folder, source)
            return self.platform.import_folder(name, folder, directory)
        if is_git:
            address = str(folder.resolve()) if folder.is_dir() else source
            return self.platform.import_git(name, address, ref, auth)
        return self.platform.import_folder(name, folder, directory)


def _is_bare(folder: Path) -> bool:
    """Whether this is a bare git repository, not a folder of workspace files."""
    return (
        (folder / "HEAD").is_file() and (folder / "objects").is_dir() and (folder / "refs").is_dir()
    )
