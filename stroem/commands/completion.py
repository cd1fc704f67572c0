"""`stroem completion`: a script that completes commands, options and names."""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser
from importlib import import_module
from typing import Any

from console.operator_command import TypedCommand

SHELLS = ("bash", "zsh", "fish")
# The commands after which a name of this kind comes first. Files are completed elsewhere.
NAMES = {
    "workspaces": ("run", "tasks", "secrets", "remove_workspace"),
    "jobs": ("jobs", "logs", "artifacts", "cancel", "restart", "approve", "reject"),
    "profiles": ("profiles",),
}
# Names are never handed to `compgen -W`, which would expand what authors wrote into them.
BASH = """{first}_stroem_names() {{
  local name
  while IFS= read -r name; do
    [[ $name == "$word"* ]] && COMPREPLY+=("$name")
  done < <(stroem completion --names "$@" 2>/dev/null)
}}
_stroem() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
  local command=${{COMP_WORDS[1]}} options=
  COMPREPLY=()
  if (( COMP_CWORD == 1 )); then
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
    --workspace) _stroem_names workspaces; return;;
    --profile) _stroem_names profiles; return;;
  esac
  if (( COMP_CWORD == 2 )); then
    case $command in
{names}
    esac
  elif (( COMP_CWORD == 3 )) && [[ $command == run || $command == trigger ]]; then
    _stroem_names tasks --workspace "$before"
  fi
  [[ ${{#COMPREPLY[@]}} -gt 0 ]] || COMPREPLY=($(compgen -f -- "$word"))
}}
complete -o filenames -F _stroem stroem
"""
ZSH = "autoload -U +X bashcompinit && bashcompinit\n"
FISH = """complete -c stroem -n __fish_use_subcommand -f -a "{commands}"
{lines}
function __stroem_runs_task
  set -l words (commandline -opc)
  test (count $words) -eq 3; and contains -- $words[2] run trigger
end
complete -c stroem -n __stroem_runs_task -f \\
  -a "(stroem completion --names tasks --workspace (commandline -opc)[3] 2>/dev/null)"
complete -c stroem -l profile -x -a "(stroem completion --names profiles 2>/dev/null)"
"""


class Command(TypedCommand):
    help = (
        'Print a completion script for bash, zsh or fish. Use it by `eval "$(stroem completion'
        ' bash)"`; in fish by `stroem completion fish | source`.'
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("shell", nargs="?", choices=SHELLS, default="bash")
        parser.add_argument("--names", choices=(*NAMES, "tasks"), help=SUPPRESS)
        parser.add_argument("--workspace", help=SUPPRESS)

    def act(self, **options: Any) -> int:
        match options["names"]:
            case None:
                self.stdout.write(script(options["shell"]))
            case "workspaces":
                self._tell(row.name for row in self.platform.workspaces())
            case "tasks":
                self._tell(row.task_name for row in self.platform.tasks(options["workspace"]))
            case "profiles":
                self._tell(_profiles())
            case _:
                recent = self.platform.jobs(workspace=None, task=None, status=None, limit=20)
                self._tell(str(row.job_id) for row in recent)
        return 0

    def _tell(self, names: Any) -> None:
        for name in names:
            self.stdout.write(name)


def _profiles() -> list[str]:
    import os

    from stroem.profiles import file_of, load

    return sorted(load(file_of(os.environ)).by_name)


def script(shell: str) -> str:
    from stroem.program import COMMANDS

    commands = " ".join(COMMANDS)
    if shell == "fish":
        return FISH.format(commands=commands, lines="\n".join(_fish(COMMANDS)))
    return BASH.format(
        first=ZSH if shell == "zsh" else "",
        commands=commands,
        options="\n".join(
            f'      {name}) options="{" ".join(_options(name))}";;' for name in COMMANDS
        ),
        names="\n".join(
            f"      {'|'.join(words)}) _stroem_names {kind};;" for kind, words in NAMES.items()
        ),
    )


def _fish(commands: Any) -> list[str]:
    lines = [
        f'complete -c stroem -n "__fish_seen_subcommand_from {name}" -l {option[2:]}'
        for name in commands
        for option in _options(name)
    ]
    return lines + [
        f'complete -c stroem -n "__fish_seen_subcommand_from {" ".join(words)}; and test (count'
        f' (commandline -opc)) -eq 2" -f -a "(stroem completion --names {kind} 2>/dev/null)"'
        for kind, words in NAMES.items()
    ]


def _options(name: str) -> list[str]:
    from stroem.program import COMMANDS, parser_of

    command = import_module(COMMANDS[name][0]).Command()
    shown = (one for one in parser_of(name, command)._actions if one.help != SUPPRESS)
    found = (option for action in shown for option in action.option_strings)
    return sorted(option for option in found if option.startswith("--"))
