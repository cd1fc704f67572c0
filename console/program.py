"""`manage.py`: finds the command; its help, its version, and what is said where there is none."""

from __future__ import annotations

import gc
import os
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import ManagementUtility, get_commands, load_command_class
from django.core.management.base import BaseCommand
from django.db import OperationalError

from console.managed import told
from engine import VERSION
from engine.spec.problems import nearest

OURS = ("standalone", "console", "stroem_project")
# Of Django's commands, those that operators need.
LENT = {
    "migrate": "Bring the database's schema up to date",
    "createsuperuser": "Create an account that may do everything",
    "changepassword": "Set a new password for an account",
}
# They serve many requests or steps at a time; any other command needs one connection.
POOLED = frozenset({"agents", "up", "run", "server", "scheduler", "worker"})
# Ours in this package are short, and lack what only servers and Django's own commands use.
HERE = Path(__file__).with_name("management") / "commands"
# They show no pages, and whom they start shows none either.
PAGELESS = frozenset({"agents", "run", "worker"})
# They read files only (except for `validate --workspace`), and models would double their time.
WITHOUT_MODELS = frozenset({"schema", "validate"})


class Program(ManagementUtility):
    def execute(self) -> None:
        words = self.argv[1:]
        if words in (["--version"], ["version"]):
            print(f"Stroem {VERSION}")
            return
        if words and words[0] not in POOLED:
            os.environ["STROEM_WITHOUT_POOL"] = "1"
        if words and (words[0] in PAGELESS or (HERE / f"{words[0]}.py").is_file()):
            os.environ["STROEM_WITHOUT_ALLAUTH"] = "1"
        if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
            os.environ["DJANGO_COLORS"] = "nocolor"
        try:
            if words and words[0] in WITHOUT_MODELS and not any(w.startswith("--w") for w in words):
                load_command_class("console", words[0]).run_from_argv(self.argv)
            else:
                super().execute()
        except ImproperlyConfigured as error:
            _refuse(f"configuration: {error}")
        except OperationalError as error:
            if "--traceback" in words or not self._is_for_operators(words[0]):
                raise
            _refuse(f"error: {told(error)}")

    def _is_for_operators(self, name: str) -> bool:
        return name in LENT or get_commands().get(name) in OURS

    def fetch_command(self, subcommand: str) -> BaseCommand:
        known = get_commands()
        if subcommand not in known:
            _check_settings()
            close = nearest(subcommand, known)
            hint = f"did you mean '{close}'? " if close else ""
            _refuse(f"There is no command '{subcommand}': {hint}`manage.py help` lists all.")
        found = super().fetch_command(subcommand)
        gc.freeze()
        gc.enable()
        return found

    def main_help_text(self, commands_only: bool = False) -> str:
        """Our commands with a sentence each, then the names of Django's."""
        known = get_commands()
        ours = sorted(name for name, app in known.items() if app in OURS)
        if commands_only:
            return "\n".join([*ours, *sorted(set(known) - set(ours))])
        lines = [f"Stroem {VERSION}", "", "usage: manage.py COMMAND [options]", ""]
        lines += [f"  {name:<17} {self._about(name)}" for name in (*ours, *LENT)]
        rest = sorted(set(known) - {*ours, *LENT})
        lines += ["", "`manage.py COMMAND --help` explains one.", "", "Django's own commands:"]
        names = textwrap.wrap(", ".join(rest), 78, initial_indent="  ", subsequent_indent="  ")
        return "\n".join(lines + names)

    def _about(self, name: str) -> str:
        if name in LENT:
            return LENT[name]
        app = get_commands()[name]
        command = app if isinstance(app, BaseCommand) else load_command_class(app, name)
        return first_sentence(command.help)


def _check_settings() -> None:
    """Without settings, none of our commands is known."""
    try:
        settings.INSTALLED_APPS  # noqa: B018  (reading it imports the module)
    except ImportError as error:
        name = os.environ.get("DJANGO_SETTINGS_MODULE", "")
        _refuse(f"configuration: the settings module '{name}' cannot be imported: {error}")


def first_sentence(text: str) -> str:
    return text.split(". ")[0].split("; ")[0].rstrip(".")


def main(argv: Sequence[str]) -> None:
    Program(list(argv)).execute()


def _refuse(sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr)
    sys.exit(2)
