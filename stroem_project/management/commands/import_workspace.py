"""`manage.py import_workspace`: read a folder or a git repository, and freeze it when it is
valid."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from apps.workspaces.models import Workspace
from apps.workspaces.services import import_folder, import_git
from apps.workspaces.snapshots import definition_of
from engine.errors import InputError
from stroem_project.operator_command import OperatorCommand
from stroem_project.workspace_path import refuse_ordinary_file

MOST_SHOWN = 10


class Command(OperatorCommand):
    help = (
        "Import a workspace, or bring it up to date. Exit code 1 when it has errors: the last good"
        " revision stays."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="the workspace's name: letters, digits, - and _")
        parser.add_argument(
            "source", help="a folder, a Torc file, a git repository's path or its address"
        )
        parser.add_argument("--ref", default="", help="branch, tag or commit of a git repository")
        parser.add_argument(
            "--auth", default="", help="name of an entry under `git_auth` in the settings"
        )

        parser.add_argument(
            "--chdir", default="", help="where steps of Torc files run, if not in the file's folder"
        )

    def act(self, **options: Any) -> int:
        workspace = _import(
            options["name"], options["source"], options["ref"], options["auth"], options["chdir"]
        )
        for problem in workspace.problems:
            self.stderr.write(problem["text"])
        revision = workspace.current
        if workspace.has_failed:
            in_force = (
                f"revision {_short(workspace)} stays in force"
                if revision
                else "there is no earlier revision"
            )
            self.stderr.write(f"{workspace.name} was not imported; {in_force}.")
            return 1
        self.stdout.write(f"{workspace.name}: revision {_short(workspace)}")
        assert revision is not None
        tasks = sorted(definition_of(revision.pk).tasks)
        if tasks:
            more = f" and {len(tasks) - MOST_SHOWN} more" if len(tasks) > MOST_SHOWN else ""
            self.stdout.write(f"it holds {', '.join(tasks[:MOST_SHOWN])}{more}")
            self.stdout.write(f"run one by: manage.py trigger {workspace.name} {tasks[0]} --follow")
        return 0


def _import(name: str, source: str, ref: str, auth: str, chdir: str) -> Workspace:
    folder = Path(source).expanduser()
    directory = str(Path(chdir).expanduser().resolve()) if chdir else ""
    if folder.is_file():
        refuse_ordinary_file(folder, source)
        return import_folder(name, folder, directory=directory)
    if not folder.exists() and ":" not in source:  # an address has one
        raise InputError(
            {
                "source": (
                    f"there is nothing at {source}: give a folder, a Torc file or a git repository"
                )
            }
        )
    if not folder.is_dir():
        return import_git(name, source, ref, auth, is_local=True)
    if ref or _is_bare(folder):
        return import_git(name, str(folder.resolve()), ref, auth, is_local=True)
    if auth:
        raise InputError({"auth": "--auth is for git repositories; this is a folder"})
    return import_folder(name, folder, directory=directory)


def _is_bare(folder: Path) -> bool:
    """A repository without files beside it: as a folder it would be a workspace of git's own
    files."""
    return (
        (folder / "HEAD").is_file() and (folder / "objects").is_dir() and (folder / "refs").is_dir()
    )


def _short(workspace: Workspace) -> str:
    assert workspace.current is not None
    return (workspace.current.label or workspace.current.digest)[:12]
