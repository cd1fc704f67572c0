"""How a script becomes a command: which toolchain of this host runs it, and where its code is."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from engine.errors import AuthorError
from engine.orders import ScriptWork
from runners import anchored
from runners.base import ADVICE
from runners.host.environment import User, clean_path
from runners.sources import is_binary

_PROBE_S = 30.0
_PROBE = (
    "import sys; print(sys.prefix, getattr(sys, '_base_executable', '') or sys.executable,"
    " sys.executable, sep='\\n')"
)
_COMMONJS = re.compile(r"\brequire\s*\(|\bmodule\.exports\b|\b__(?:dir|file)name\b")
_ES_MODULE = re.compile(r"^\s*(?:import\b\s*[\w{*\"']|export\b)", re.MULTILINE)
LONGEST_ARGUMENT = 16_384  # longest code on a command line: process lists stay readable
_PLAIN_EXTENSIONS = {
    "shell": ".sh", "python": ".py", "javascript": ".js", "typescript": ".ts", "go": ".go",
}  # fmt: skip

Writer = Callable[[str, str], Path]  # (name below scratch, text) -> the file that the step may read


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


@dataclass(frozen=True, slots=True)
class Invocation:
    """What to run; the author's variables override `env`. `build` runs first; afterwards `links`
    are removed from the workspace."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    build: Build | None = None
    links: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Build:
    """A compiler run before the script."""

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)


def build_invocation(
    work: ScriptWork,
    toolbox: Toolbox,
    root: Path,
    scratch: Path,
    environment: Path | None,
    write: Writer,
) -> Invocation:
    """The command for `work`. `write` puts inline code into `scratch`; a source is found below
    `root`."""
    source = find_source(root, work.source) if work.source is not None else None
    if work.program:
        return _invoke_program(work, toolbox, source, root, write)
    tool = toolbox.choose(work.language, work.interpreter)
    match work.language:
        case "shell":
            return _invoke_shell(work, tool, root, source, write)
        case "python":
            return _invoke_python(work, tool, source, root, environment, write)
        case "javascript" | "typescript":
            return _invoke_node(work, tool, source, root, scratch, environment, write)
        case "go":
            return _invoke_go(work, tool, toolbox, source, root, scratch, environment, write)


def find_source(root: Path, source: str) -> Path:
    """The file that `source` names; it must lie in the workspace."""
    path = root / source
    try:
        real = path.resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        raise AuthorError(f"source {source!r} does not exist in the workspace") from None
    if not real.is_relative_to(root.resolve()):
        raise AuthorError(f"source {source!r} lies outside the workspace")
    if not real.is_file():
        raise AuthorError(f"source {source!r} is not a file")
    return path


def _invoke_shell(
    work: ScriptWork, tool: Tool, root: Path, source: Path | None, write: Writer
) -> Invocation:
    if source is None:
        code = work.code or ""
        if _may_be_an_argument(work, code):
            return Invocation((*tool.argv, "-c", code, os.path.basename(tool.argv[0]), *work.args))
        return Invocation((*tool.argv, str(write("step.sh", code)), *work.args))
    if not work.interpreter and is_binary(root, source):
        return Invocation((str(source), *work.args))
    return Invocation((*tool.argv, str(source), *work.args))


def _may_be_an_argument(work: ScriptWork, code: str) -> bool:
    """Whether a shell can take `code` as an argument, which saves more time than some scripts
    take."""
    return (
        work.is_open
        and not work.interpreter
        and len(code) <= LONGEST_ARGUMENT
        and code.isascii()
        and "\0" not in code
        and not code.startswith(("-", "+"))  # the shell would read it as an option
    )


def _invoke_program(
    work: ScriptWork, toolbox: Toolbox, source: Path | None, root: Path, write: Writer
) -> Invocation:
    """The program of the script's first line, with its options, and the file as its argument."""
    extension = _PLAIN_EXTENSIONS[work.language]
    file = source if source is not None else write(f"step{extension}", work.code or "")
    env: dict[str, str] = {}
    if work.language == "python":
        env = {"PYTHONUNBUFFERED": "1"}
        env |= {"PYTHONPATH": str(root)} if source is None else {}
    argv = (toolbox.find_program(work.program[0]), *work.program[1:])
    return Invocation((*argv, str(file), *work.args), env)


def _invoke_python(
    work: ScriptWork,
    tool: Tool,
    source: Path | None,
    root: Path,
    environment: Path | None,
    write: Writer,
) -> Invocation:
    argv = (str(environment / "venv" / "bin" / "python"),) if environment else tool.argv
    if source is not None:
        return Invocation((*argv, "-u", str(source), *work.args))
    # Inline code lies outside the workspace but may import modules of the workspace.
    return Invocation(
        (*argv, "-u", str(write("step.py", work.code or "")), *work.args), {"PYTHONPATH": str(root)}
    )


def _invoke_node(
    work: ScriptWork,
    tool: Tool,
    source: Path | None,
    root: Path,
    scratch: Path,
    environment: Path | None,
    write: Writer,
) -> Invocation:
    code = work.code or ""
    file = (
        source
        if source is not None
        else write(f"step{_node_extension(work.language, tool, code)}", code)
    )
    links: tuple[Path, ...] = ()
    env: dict[str, str] = {}
    if environment is not None:
        # Node looks for packages beside and above the script, never in the working directory.
        names = ("node_modules", "package.json") if tool.kind == "deno" else ("node_modules",)
        links = _link(environment, scratch if source is None else root, names)
        env["NODE_PATH"] = str(environment / "node_modules")
    match tool.kind:
        case "bun":
            argv = (*tool.argv, "run", "--no-install", str(file))
        case "deno":
            manual = ("--node-modules-dir=manual",) if environment else ()
            argv = (*tool.argv, "run", "--allow-all", "--no-prompt", "--quiet", *manual, str(file))
        case _:
            argv = (*tool.argv, str(file))
    return Invocation((*argv, *work.args), env, links=links if source is not None else ())


def _node_extension(language: str, tool: Tool, code: str) -> str:
    """Node.js tells modules from scripts by the file extension; only scripts have `require`."""
    if language == "typescript":
        return ".ts"
    is_module = _ES_MODULE.search(code) or not _COMMONJS.search(code)
    return ".mjs" if tool.kind == "node" and is_module else ".js"


def _link(environment: Path, folder: Path, names: tuple[str, ...]) -> tuple[Path, ...]:
    made = []
    for name in names:
        link = folder / name
        if not link.exists() and (environment / name).exists():
            link.symlink_to(environment / name)
            made.append(link)
    return tuple(made)


def _invoke_go(
    work: ScriptWork,
    tool: Tool,
    toolbox: Toolbox,
    source: Path | None,
    root: Path,
    scratch: Path,
    environment: Path | None,
    write: Writer,
) -> Invocation:
    """Compile, then run: like `go run`, but keeps the program's exit code and arguments."""
    program = scratch / "step"
    build = (*tool.argv, "build", "-o", str(program))
    modules = (
        {name: (environment / name).read_text() for name in _modules(environment)}
        if environment
        else {}
    )
    if source is None:
        # In its own folder: Go ignores a go.mod directly in TMPDIR.
        folder = write("go/main.go", work.code or "").parent
        for name, text in (modules or {"go.mod": go_module(tool, toolbox)}).items():
            write(f"go/{name}", text)
        env = {"GOFLAGS": "-mod=mod", "GOPROXY": "off"}
        return Invocation((str(program), *work.args), build=Build((*build, "."), folder, env))
    links: tuple[Path, ...] = ()
    if environment is not None:
        if (root / "go.mod").exists():
            raise AuthorError(
                "the workspace has a go.mod; name the modules there instead of in 'dependencies'"
            )
        with anchored.folder(root) as fd:
            found = os.fstat(fd)  # the step's user may own it
            for name, text in modules.items():
                anchored.write(name, text.encode(), fd, (found.st_uid, found.st_gid))
        links = tuple(root / name for name in modules)
    return Invocation(
        (str(program), *work.args), build=Build((*build, os.fspath(source)), root), links=links
    )


def _modules(environment: Path) -> tuple[str, ...]:
    return tuple(name for name in ("go.mod", "go.sum") if (environment / name).exists())


def go_module(tool: Tool, toolbox: Toolbox) -> str:
    return f"module step\n\ngo {toolbox.read_go_version(tool)}\n"
