"""Which toolchains this host has, and which of them runs a script."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import PurePath

from engine.errors import AuthorError
from runners.base import ADVICE
from runners.host.environment import User, clean_path

_PROBE_S = 30.0
_PROBE = (
    "import sys; print(sys.prefix, getattr(sys, '_base_executable', '') or sys.executable,"
    " sys.executable, sep='\\n')"
)


@dataclass(frozen=True, slots=True)
class Tool:
    """A toolchain of this host. `kind` is one of uv, python, bun, node, deno, go, shell, other."""

    kind: str
    argv: tuple[str, ...]

    @property
    def identity(self) -> tuple[str, ...]:
        """Changes when another version is installed in its place."""
        found = os.stat(os.path.realpath(self.argv[0]))
        return (*self.argv, str(found.st_size), str(found.st_mtime_ns))


class Toolbox:
    """Finds toolchains, each once per process and user. Never the worker's own Python. An author
    may have chosen a program: it is asked about itself as the step's `user` only."""

    def __init__(self, path: str | None = None, user: User | None = None) -> None:
        self.path = clean_path(path)
        self._user = user
        self._found: dict[tuple[str, str | None], Tool] = {}

    def choose(self, language: str, interpreter: str | None = None) -> Tool:
        """The toolchain for `language`, or the author's `interpreter`; AuthorError says what to
        install."""
        key = (language, interpreter)
        if key not in self._found:
            self._found[key] = (
                self._named(language, interpreter) if interpreter else self._preferred(language)
            )
        return self._found[key]

    def find(self, name: str) -> str | None:
        """The path of a program; also finds uv where pip installed it beside the worker."""
        found = shutil.which(name, path=self.path)
        if found is None and name == "uv":
            found = shutil.which("uv", path=os.path.dirname(sys.executable))
        return found

    def find_program(self, name: str) -> str:
        """The program that a script's first line names; AuthorError if it is not here."""
        found = shutil.which(name) if "/" in name else self.find(name)
        if found is None:
            raise AuthorError(
                f"the script's first line names '{name}', which was not found on this worker;"
                " install it there, or correct the line"
            )
        return found

    def installer(self, tool: Tool) -> Tool:
        """The installer of JavaScript packages for `tool`."""
        if tool.kind in ("bun", "deno"):
            return tool
        for name in ("npm", "bun"):
            found = self.find(name)
            if found:
                return Tool(name, (found,))
        raise AuthorError(
            "'dependencies' need npm or bun, and this worker has neither; install one of them on"
            " the worker"
        )

    def _named(self, language: str, interpreter: str) -> Tool:
        try:
            words = shlex.split(interpreter)
        except ValueError:
            words = []
        if not words:
            raise AuthorError(f"'interpreter' names no program: {interpreter!r}")
        program = words[0] if "/" in words[0] else self.find(words[0])
        if program is None:
            raise AuthorError(
                f"interpreter '{words[0]}' was not found on this worker; install it there, "
                f"or leave 'interpreter' out to use {ADVICE[language][1]}"
            )
        return Tool(_kind_of(words[0]), (program, *words[1:]))

    def _preferred(self, language: str) -> Tool:
        tried, advice = ADVICE[language]
        for name in tried:
            found = self.find(name)
            if found is None:
                continue
            if name == "uv":
                return self._python_with(found)
            return Tool(
                "shell" if language == "shell" else _kind_of(name),
                (self._real_python(found),) if language == "python" else (found,),
            )
        raise AuthorError(
            f"No interpreter found for language '{language}'. Tried: {', '.join(tried)}; install"
            f" {advice} on the worker"
        )

    def _python_with(self, uv: str) -> Tool:
        """Prefer plain Python: a script without dependencies starts faster without uv."""
        for name in ("python3", "python"):
            found = self.find(name)
            if found:
                return Tool("python", (self._real_python(found),))
        return Tool("uv", (uv, "run", "--no-project", "--quiet", "python"))

    def read_go_version(self, go: Tool) -> str:
        """The language version for a generated go.mod, such as `1.27`."""
        answer = self._ask(
            (*go.argv, "env", "GOVERSION"),
            {"GOTOOLCHAIN": "local", "GOCACHE": "off", "HOME": "/nonexistent"},
        )
        major, _, rest = answer.removeprefix("go").partition(".")
        return f"{major}.{rest.partition('.')[0]}" if major.isdigit() else "1.21"

    def _real_python(self, found: str) -> str:
        """The interpreter behind a shim, which would start a shell each time; for the worker's own
        virtual environment its base, because those packages are not for steps."""
        prefix, _, rest = self._ask((found, "-c", _PROBE)).partition("\n")
        base, _, real = rest.partition("\n")
        if not os.path.isabs(real):
            return found
        is_workers = sys.prefix != sys.base_prefix and os.path.realpath(prefix) == os.path.realpath(
            sys.prefix
        )
        return base if is_workers else real

    def _ask(self, argv: tuple[str, ...], env: dict[str, str] | None = None) -> str:
        """A program's output about itself; empty when it fails."""
        user = self._user
        home = user.home if user else os.environ.get("HOME", "/")
        try:
            answer = subprocess.run(
                argv,
                env={"PATH": clean_path(), "HOME": home, **(env or {})},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_PROBE_S,
                check=False,
                cwd="/" if user else None,
                user=user.uid if user else None,
                group=user.gid if user else None,
                extra_groups=user.groups if user else None,
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return answer.stdout.strip() if answer.returncode == 0 else ""


def _kind_of(program: str) -> str:
    name = PurePath(program).name
    for kind, names in {
        "python": ("python", "pypy"),
        "node": ("node",),
        "bun": ("bun",),
        "deno": ("deno",),
    }.items():
        if name.startswith(names):
            return kind
    return "go" if name.startswith("go") else "other"
