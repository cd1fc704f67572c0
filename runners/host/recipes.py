"""How the dependencies that a script declares are installed, for each language."""

from __future__ import annotations

import re

from engine.errors import AuthorError
from engine.orders import ScriptWork
from runners.host.dependencies import Recipe
from runners.host.languages import Tool, Toolbox, go_module

_GO_IMPORT = re.compile(
    r'^\s*(?:import\s+)?(?:[\w.]+\s+)?"([\w-]+(?:\.[\w-]+)+/[^"\s]+)"', re.MULTILINE
)
_LOCAL_DEPENDENCY = re.compile(r"^(?:-|\.|/|~|file:|link:|portal:)")


def find_recipe(work: ScriptWork, toolbox: Toolbox) -> Recipe | None:
    """How to make the environment that `work` needs; None when it needs none."""
    _check(work)
    match work.language:
        case "python" if work.dependencies:
            return _python_recipe(work, toolbox)
        case "javascript" | "typescript" if work.dependencies:
            return _node_recipe(work, toolbox)
        case "go":
            return _go_recipe(work, toolbox)
        case _:
            return None


def _check(work: ScriptWork) -> None:
    """Refuse what no runner can install. Raises AuthorError."""
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
    tool = _installer(toolbox, toolbox.choose(work.language, work.interpreter))
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


def _installer(toolbox: Toolbox, tool: Tool) -> Tool:
    """The installer of JavaScript packages for `tool`."""
    if tool.kind in ("bun", "deno"):
        return tool
    for name in ("npm", "bun"):
        found = toolbox.find(name)
        if found:
            return Tool(name, (found,))
    raise AuthorError(
        "'dependencies' need npm or bun, and this worker has neither; install one of them on"
        " the worker"
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
        {"go.mod": go_module(tool, toolbox)},
        {"GOFLAGS": "-mod=mod"},
    )
