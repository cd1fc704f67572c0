"""How a script becomes a command: its toolchain, the place of its code, what to install first."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import AuthorError
from engine.orders import ScriptWork
from runners import anchored
from runners.host.dependencies import Recipe
from runners.host.toolbox import Tool, Toolbox
from runners.sources import is_binary

_COMMONJS = re.compile(r"\brequire\s*\(|\bmodule\.exports\b|\b__(?:dir|file)name\b")
_ES_MODULE = re.compile(r"^\s*(?:import\b\s*[\w{*\"']|export\b)", re.MULTILINE)
_GO_IMPORT = re.compile(
    r'^\s*(?:import\s+)?(?:[\w.]+\s+)?"([\w-]+(?:\.[\w-]+)+/[^"\s]+)"', re.MULTILINE
)
LONGEST_ARGUMENT = 16_384  # longest code on a command line: process lists stay readable
_PLAIN_EXTENSIONS = {
    "shell": ".sh", "python": ".py", "javascript": ".js", "typescript": ".ts", "go": ".go",
}  # fmt: skip
_LOCAL_DEPENDENCY = re.compile(r"^(?:-|\.|/|~|file:|link:|portal:)")


Writer = Callable[[str, str], Path]  # (name below scratch, text) -> the file that the step may read


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


def check_script(work: ScriptWork) -> None:
    """Refuse what no runner can run. Raises AuthorError."""
    if work.dependencies and work.language == "shell":
        raise AuthorError(
            "'dependencies' need a language with packages, and this script's language is shell; "
            "set 'language', or install what it needs in the script"
        )
    for name in work.dependencies:
        if not name.strip() or _LOCAL_DEPENDENCY.match(name) or "\0" in name or "\n" in name:
            raise AuthorError(
                f"dependency {name!r} is not a package name; name a package, with a version if it"
                " matters"
            )
    if work.language == "go":
        for name in work.dependencies:
            if "/" not in name and "." not in name.partition("@")[0]:
                raise AuthorError(
                    f"dependency {name!r} is not a Go module; write it as module@version"
                )


def find_recipe(work: ScriptWork, toolbox: Toolbox) -> Recipe | None:
    """How to make the environment that `work` needs; None when it needs none."""
    check_script(work)
    match work.language:
        case "python" if work.dependencies:
            return _python_recipe(work, toolbox)
        case "javascript" | "typescript" if work.dependencies:
            return _node_recipe(work, toolbox)
        case "go":
            return _go_recipe(work, toolbox)
        case _:
            return None


def _python_recipe(work: ScriptWork, toolbox: Toolbox) -> Recipe:
    tool, uv = toolbox.choose("python", work.interpreter), toolbox.find("uv")
    python = () if tool.kind == "uv" else ("--python", tool.argv[0])
    if uv is not None:
        commands: tuple[tuple[str, ...], ...] = (
            (uv, "venv", "--quiet", "--no-project", *python, "venv"),
            (
                uv,
                "pip",
                "install",
                "--compile-bytecode",
                "--python",
                "venv/bin/python",
                "--",
                *work.dependencies,
            ),
        )
    else:
        install = (
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
            "--",
        )
        commands = (
            (tool.argv[0], "-m", "venv", "venv"),
            ("venv/bin/python", *install, *work.dependencies),
        )
    return Recipe("python", tool.identity, work.dependencies, commands)


def _node_recipe(work: ScriptWork, toolbox: Toolbox) -> Recipe:
    tool = toolbox.installer(toolbox.choose(work.language, work.interpreter))
    match tool.kind:
        case "bun":
            names = tuple(name.removeprefix("npm:") for name in work.dependencies)
            command = (tool.argv[0], "add", "--", *names)
        case "deno":
            names = tuple(
                name if name.startswith(("npm:", "jsr:")) else f"npm:{name}"
                for name in work.dependencies
            )
            command = (tool.argv[0], "add", "--node-modules-dir=auto", *names)
        case _:
            names = tuple(name.removeprefix("npm:") for name in work.dependencies)
            command = (
                tool.argv[0],
                "install",
                "--no-audit",
                "--no-fund",
                "--loglevel=error",
                "--",
                *names,
            )
    package = '{"name": "step", "private": true}\n'
    return Recipe(
        "javascript",
        tool.identity,
        work.dependencies,
        (command,),
        {"package.json": package},
        {"NO_COLOR": "1"},
    )


def _go_recipe(work: ScriptWork, toolbox: Toolbox) -> Recipe | None:
    """The declared modules, and packages that inline code imports without declaring their
    module."""
    declared = {name.partition("@")[0] for name in work.dependencies}
    imported = set(_GO_IMPORT.findall(work.code or ""))
    unnamed = {
        path
        for path in imported
        if not any(path == name or path.startswith(f"{name}/") for name in declared)
    }
    wanted = (*work.dependencies, *sorted(unnamed))
    if not wanted:
        return None
    tool = toolbox.choose("go", work.interpreter)
    commands = ((*tool.argv, "get", "--", *wanted), (*tool.argv, "mod", "download", "all"))
    return Recipe(
        "go",
        tool.identity,
        wanted,
        commands,
        {"go.mod": _go_module(tool, toolbox)},
        {"GOFLAGS": "-mod=mod"},
    )


def _go_module(tool: Tool, toolbox: Toolbox) -> str:
    return f"module step\n\ngo {toolbox.read_go_version(tool)}\n"


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
    check_script(work)
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
        for name, text in (modules or {"go.mod": _go_module(tool, toolbox)}).items():
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
