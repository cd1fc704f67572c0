"""`manage.py completion`: a script for bash or zsh that completes commands, options and names."""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser
from typing import Any

from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand, DjangoHelpFormatter

from console.operator_command import TypedCommand
from console.program import LENT, OURS
from engine.errors import InputError

# The words after which a name of this kind follows. Anything else is completed as a file.
NAMES = {
    "workspaces": ("tasks", "trigger", "remove_workspace", "import_workspace", "--workspace"),
    "jobs": ("jobs", "logs", "artifacts", "cancel", "restart", "approve", "reject"),
}
# Names are never handed to `compgen -W`, which would expand what authors wrote into them.
SCRIPT = """# for bash; in zsh after: autoload -U +X bashcompinit && bashcompinit
_stroem_names() {{
  local name
  while IFS= read -r name; do
    [[ $name == "$word"* ]] && COMPREPLY+=("$name")
  done < <("${{COMP_WORDS[@]:0:at}}" completion --names "$@" 2>/dev/null)
}}
_stroem() {{
  local at=1 word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} command options=
  COMPREPLY=()
  if [[ ${{COMP_WORDS[0]##*/}} == python* ]]; then
    [[ ${{COMP_WORDS[1]##*/}} == manage.py ]] || {{ COMPREPLY=($(compgen -f -- "$word")); return; }}
    at=2
  fi
  command=${{COMP_WORDS[at]}}
  if (( COMP_CWORD == at )); then
    COMPREPLY=($(compgen -W "{commands}" -- "$word"))
    return
  fi
  if [[ $word == -* ]]; then
    case $command in
{options}
    esac
    COMPREPLY=($(compgen -W "$options" -- "$word"))
    return
  fi
  case $before in
{names}
    *) [[ $command == trigger && ${{COMP_WORDS[COMP_CWORD-2]}} == trigger ]] &&
      _stroem_names tasks --workspace "$before";;
  esac
  [[ ${{#COMPREPLY[@]}} -gt 0 ]] || COMPREPLY=($(compgen -f -- "$word"))
}}
complete -o filenames -F _stroem manage.py ./manage.py python python3
"""


class Command(TypedCommand):
    help = (
        'Print a completion script for bash or zsh. Use it by `eval "$(manage.py completion)"`; it'
        " also completes the names of workspaces, tasks and jobs."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--names",
            choices=("workspaces", "tasks", "jobs"),
            help="print these names instead; the script asks for them",
        )
        parser.add_argument("--workspace", help="with `--names tasks`: only of this workspace")

    def act(self, **options: Any) -> int:
        if options["workspace"] is not None and options["names"] != "tasks":
            raise InputError({"workspace": "--workspace is for `--names tasks`"})
        match options["names"]:
            case None:
                self.stdout.write(script())
            case "workspaces":
                self._names(row.name for row in self.platform.workspaces())
            case "tasks":
                self._names(row.task_name for row in self.platform.tasks(options["workspace"]))
            case _:
                recent = self.platform.jobs(workspace=None, task=None, status=None, limit=20)
                self._names(str(row.job_id) for row in recent)
        return 0

    def _names(self, names: Any) -> None:
        for name in names:
            self.stdout.write(name)


def script() -> str:
    known = get_commands()
    ours = [*sorted(name for name, app in known.items() if app in OURS), *LENT]
    return SCRIPT.format(
        commands=" ".join(ours),
        options="\n".join(f'      {name}) options="{_options(name)}";;' for name in ours),
        names="\n".join(
            f"    {'|'.join(words)}) _stroem_names {kind};;" for kind, words in NAMES.items()
        ),
    )


def _options(name: str) -> str:
    app = get_commands()[name]
    command = app if isinstance(app, BaseCommand) else load_command_class(app, name)
    parser = command.create_parser("manage.py", name)
    shown = (action for action in parser._actions if action.help != SUPPRESS)
    found = (option for action in shown for option in action.option_strings)
    lent = DjangoHelpFormatter.show_last
    return " ".join(sorted(one for one in found if one.startswith("--") and one not in lent))
