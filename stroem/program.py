"""`stroem COMMAND`: finds the command, and runs it as `manage.py` would."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, HelpFormatter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

from console import streams
from console.arguments import refuse_empty_values, refuse_repeated
from console.unmanaged import CommandError, PlatformCommand
from engine import VERSION

if TYPE_CHECKING:
    from console.port import Platform

SHARED, OWN = "console.management.commands", "stroem.commands"
ALIASES = {"trigger": "run"}  # as `manage.py` calls it
# Each with its module and what it is for, so that the list of commands imports none of them.
COMMANDS: Mapping[str, tuple[str, str]] = {
    "approve": (f"{SHARED}.approve", "Approve a step that waits for a decision"),
    "artifacts": (f"{SHARED}.artifacts", "List the files of a job, or download some"),
    "audit": (f"{SHARED}.audit", "Print the audit log as JSON lines, for administrators"),
    "cancel": (f"{SHARED}.cancel", "Cancel a job and its child jobs"),
    "completion": (f"{OWN}.completion", "Print a completion script for bash, zsh or fish"),
    "connections": (f"{SHARED}.connections", "List connections, set, remove or check one"),
    "jobs": (f"{SHARED}.jobs", "List jobs, newest first, or show one with its steps"),
    "libraries": (f"{SHARED}.libraries", "List libraries with their pins, or refresh some"),
    "lock": (f"{SHARED}.lock", "Pin the libraries of a folder; needs no server"),
    "login": (f"{OWN}.login", "Sign in to a server and keep its key"),
    "logout": (f"{OWN}.logout", "Forget the key of a profile"),
    "logs": (f"{SHARED}.logs", "Show the log of a job, so far or until it ends"),
    "profiles": (f"{OWN}.profiles", "List the servers with a key, or choose the one to use"),
    "reject": (f"{SHARED}.reject", "Reject a step that waits for a decision"),
    "remove_workspace": (f"{SHARED}.remove_workspace", "Remove a workspace with all its jobs"),
    "restart": (f"{SHARED}.restart", "Run a job again, or only its failed steps"),
    "run": (f"{SHARED}.trigger", "Start a task, and follow its job with --follow"),
    "schema": (f"{SHARED}.schema", "Print the JSON Schema of workflow files, for editors"),
    "secrets": (f"{SHARED}.secrets", "List, set or remove the stored secrets of a workspace"),
    "state": (f"{SHARED}.state", "Show what a task remembers, its versions, or restore one"),
    "tasks": (f"{SHARED}.tasks", "List tasks with their inputs"),
    "triggers": (f"{SHARED}.triggers", "List triggers, pause, resume or fire one"),
    "validate": (f"{SHARED}.validate", "Check a workspace; needs no server"),
    "workers": (f"{SHARED}.workers", "List workers: their state, slots and tags"),
    "workspaces": (f"{SHARED}.workspaces", "List workspaces; failing ones come first"),
}
WITHOUT_SERVER = frozenset({"completion", "lock", "schema", "validate"})
WITH_PROFILE_ONLY = frozenset({"login", "logout", "profiles"})


def main(argv: Sequence[str] | None = None) -> None:
    streams.settle()
    with streams.guarded():
        _run(list(sys.argv[1:] if argv is None else argv))


def _run(words: list[str]) -> None:
    if words in (["--version"], ["version"]):
        print(f"Stroem {VERSION}")
        return
    if not words or words[0] in ("--help", "-h", "help"):
        print(overview())
        sys.exit(0 if words else 2)
    name = ALIASES.get(words[0], words[0])
    if name not in COMMANDS:
        _refuse_unknown(name)
    command = import_module(COMMANDS[name][0]).Command()
    PlatformCommand.connect = connect
    options = vars(parser_of(name, command).parse_args(words[1:]))
    command.options = options
    try:
        command.handle(**options)
    except CommandError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.returncode)


def connect(options: Mapping[str, Any]) -> Platform:
    """The platform behind the server that the options, the environment or the profiles name."""
    from stroem.http import Server
    from stroem.profiles import chosen
    from stroem.remote import Remote

    return Remote(Server(chosen(options.get("profile"), options.get("server"), os.environ)))


def parser_of(name: str, command: Any) -> ArgumentParser:
    parser = ArgumentParser(
        prog=f"stroem {name}", description=command.help, formatter_class=HelpFormatter
    )
    command.add_arguments(parser)
    if name not in WITHOUT_SERVER:
        parser.add_argument(
            "--profile", metavar="NAME", help="which server; default: the one in use"
        )
    if name not in WITHOUT_SERVER | WITH_PROFILE_ONLY:
        parser.add_argument("--server", metavar="URL", help="this server; its key is STROEM_TOKEN")
    parser.add_argument("--no-color", action="store_true", help="without colours")
    parser.add_argument("--force-color", action="store_true", help="with colours, also in a pipe")
    refuse_empty_values(parser)
    refuse_repeated(parser)
    return parser


def overview() -> str:
    lines = [f"Stroem {VERSION}", "", "usage: stroem COMMAND [options]", ""]
    lines += [f"  {name:<17} {about}" for name, (_, about) in COMMANDS.items()]
    return "\n".join([*lines, "", "`stroem COMMAND --help` explains one."])


def _refuse_unknown(name: str) -> None:
    near = get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    print(f"There is no command '{name}': {hint}`stroem help` lists all.", file=sys.stderr)
    sys.exit(2)
