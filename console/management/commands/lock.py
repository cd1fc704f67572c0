"""`manage.py lock`: pins the libraries of a folder in its lock file. Needs no server."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from console.operator_command import TypedCommand
from console.workspace_path import lock_libraries
from engine.errors import AuthorError, InputError
from engine.plain import plain
from engine.spec.problems import did_you_mean


class Command(TypedCommand):
    help = (
        "Pin the libraries that the files in a folder name, in its libraries.lock: the commit of"
        " each, and the hash of its files. Pins that are there stay; name libraries, or give"
        " --all, to move theirs to the newest commit."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("path", help="the workspace's folder")
        parser.add_argument("name", nargs="*", default=[], help="libraries whose pins move")
        parser.add_argument("--all", action="store_true", help="move the pins of all libraries")

    def act(self, **options: Any) -> int:
        if options["name"] and options["all"]:
            raise InputError({"all": "give names or --all, not both"})
        folder = Path(options["path"]).expanduser().resolve()
        if not folder.is_dir():
            raise AuthorError(f"There is no folder '{plain(options['path'])}'.")
        names = frozenset(options["name"])
        made = lock_libraries(folder, names, move_all=options["all"])
        if not made.pins:
            raise AuthorError(f"The files in '{plain(options['path'])}' name no libraries.")
        for name in sorted(names - made.pins.keys()):
            hint = did_you_mean(name, made.pins)
            raise InputError({"name": f"the files name no library '{plain(name)}'{hint}"})
        try:
            made.file.write_text(made.text, encoding="utf-8")
        except OSError as error:
            reason = (error.strerror or "it cannot be written").lower()
            raise AuthorError(f"{plain(str(made.file))} cannot be written: {reason}.") from None
        for name, pin in sorted(made.pins.items()):
            state = "pinned" if name in made.moved else "kept"
            at = f"commit {pin.commit[:12]}" if pin.commit else f"hash {pin.tree[:12]}"
            self.stdout.write(f"{name}: {state} at {at}")
        self.stdout.write(f"Written: {plain(str(made.file))}")
        return 0
