"""A script as files for a container: the code, and a POSIX shell program (`script.sh`) that finds
an interpreter and runs it.

The files reach the container by archive or by environment, never as arguments: rendered code may
hold secrets. The program needs only `sh`; it looks for everything else with `command -v`.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from pathlib import Path, PurePosixPath

from engine.errors import AuthorError, PlatformError
from engine.orders import (
    ARTIFACTS_DIR,
    ARTIFACTS_IN,
    INPUT_FILE,
    INPUTS_FILE,
    STATE_VARIABLES,
    ScriptWork,
    StepOrder,
)
from engine.scripts import PROGRAMS, refuse_foreign
from runners.base import ADVICE
from runners.sources import use_plain_line_ends

DEFAULT_RUNNER_IMAGE = "ghcr.io/fremvaerk/stroem-runner:latest"
WORKSPACE = "/workspace"
CACHE = "/var/cache/stroem"
STARTUP = "/etc/stroem/startup.d"
FILES = "/.stroem"
MAIN = "run.sh"
INPUT = "input.json"
LEFT, TAKEN = "/artifacts", "/artifacts-in"
HELPER_FOLDER = "/.stroem-step"
_PROGRAM = Path(__file__).with_name("script.sh").read_text(encoding="utf-8")

_NAMES = {
    "shell": "script.sh",
    "python": "script.py",
    "javascript": "script.js",
    "typescript": "script.ts",
    "go": "script.go",
}
_COMMONJS = re.compile(r"\brequire\s*\(|\bmodule\.exports\b")
# Node reports a directory that it may not create as missing.
_FAILED_WRITE = re.compile(
    r"(ENOENT|EACCES|EPERM).*\b(mkdir|rename|symlink|unlink|rmdir) '/workspace\b"
)
_ES_MODULE = re.compile(r"^\s*(import\b[^(]|export\b)|\bawait\b", re.MULTILINE)


def build_script_files(work: ScriptWork, image: str) -> dict[str, str]:
    """Name to text, all in one directory; `sh DIRECTORY/run.sh` does the work. `image` keeps
    environments of different images apart in a shared cache."""
    _refuse_impossible(work)
    name = _NAMES[work.language]
    variables = {
        "language": work.language,
        "advice": ADVICE[work.language][1],
        "interpreter": work.interpreter or "",
        "source": str(PurePosixPath(WORKSPACE, work.source)) if work.source is not None else "",
        "source_name": work.source or "",
        "foreign": refuse_foreign(work.source or ""),
        "name": name,
        "node_extension": _choose_node_extension(work.code or ""),
        "cache_root": CACHE,
        "environment": _name_environment(work, image),
        "startup": STARTUP,
    }
    head = "".join(f"_s_{key}={shlex.quote(value)}\n" for key, value in variables.items())
    dependencies = f'dependencies() {{ "$@" {" ".join(map(shlex.quote, work.dependencies))}; }}\n'
    cases = "".join(
        f"{name}|{name}[0-9.-]*) echo {' '.join(its)};;" for name, its in PROGRAMS.items()
    )
    languages = f"languages_of() {{ case $1 in {cases} esac; }}\n"
    arguments = f"set -- {' '.join(map(shlex.quote, work.args))}\n"
    has = f"_s_has_dependencies={'yes' if work.dependencies else ''}\n"
    if work.umask is not None:
        head = f"umask {work.umask:04o}\n{head}"
    files = {MAIN: head + has + dependencies + languages + arguments + _PROGRAM}
    if work.code is not None:
        files[name] = work.code
    return files


def check_source(work: ScriptWork) -> str:
    """Refuse a `source` that is not a file of the workspace, as far as it can be checked here. A
    note for the log if it had line ends of Windows, which are plain from now on."""
    if work.source is None:
        return ""
    parts = PurePosixPath(work.source)
    if parts.is_absolute() or ".." in parts.parts:
        raise AuthorError(
            f"source {work.source!r} is outside the workspace; write a path relative to its root"
        )
    if work.workspace_dir is None:
        return ""
    root = work.workspace_dir.resolve()
    target = (root / work.source).resolve()
    if not target.is_relative_to(root):
        raise AuthorError(f"source {work.source!r} leads outside the workspace")
    if not target.is_file():
        raise AuthorError(f"source {work.source!r} is not a file of the workspace")
    return use_plain_line_ends(root, target, work.source) if work.language == "shell" else ""


def place_workdir(workdir: str | None) -> str:
    """The directory in which a script starts: `workdir` below the workspace, or an absolute
    `workdir`."""
    return str(PurePosixPath(WORKSPACE, workdir)) if workdir else WORKSPACE


def is_read_only_complaint(text: str) -> bool:
    """Whether a line reports a failed write to a read-only file system or to the workspace."""
    plain = text.lower().replace("-", "").replace(" ", "")
    return (
        "readonlyfilesystem" in plain or "erofs" in plain or _FAILED_WRITE.search(text) is not None
    )


READ_ONLY_REMEDY = (
    "The workspace is mounted read-only at /workspace; with `workspace: copy` in the action the"
    " step gets a writable copy of its own."
)


def read_input(order: StepOrder) -> dict[str, str]:
    """The file with the step's input: its name in FILES and its text; empty if the order has
    none."""
    if order.input_path is None:
        return {}
    try:
        return {INPUT: order.input_path.read_text(encoding="utf-8")}
    except OSError as error:
        raise PlatformError(
            f"the step's input could not be read from {order.input_path}: {error.strerror}"
        ) from error


def build_env(order: StepOrder) -> dict[str, str]:
    """The step's environment with paths of the host replaced by those in the container: the input
    file is in FILES, and workspace paths lead to WORKSPACE."""
    for key, value in order.env.items():
        if not key or "=" in key or "\0" in key or "\0" in value:
            raise AuthorError(f"env: {key!r} cannot be an environment variable")
    env = dict(order.env)
    directory = order.work.workspace_dir if isinstance(order.work, ScriptWork) else None
    if directory is not None:
        root = str(directory)
        for key, value in env.items():
            if value == root or value.startswith(f"{root}/"):
                env[key] = WORKSPACE + value[len(root) :]
    if order.state is not None:
        hosts = {str(path): name for name, path in order.state.by_variable.items()}
        env |= {k: STATE_VARIABLES[hosts[v]] for k, v in env.items() if v in hosts}
    if order.shelves is not None:
        env = {ARTIFACTS_DIR: LEFT} | env
        if order.shelves.taken is not None or order.shelves.takes:
            env = {ARTIFACTS_IN: TAKEN} | env
    if order.input_path is None:
        return env
    path = f"{FILES}/{INPUT}"
    return {INPUT_FILE: path} | env | {INPUTS_FILE: path}


def split_cmd(cmd: str) -> list[str]:
    """`cmd` beside an `entrypoint`: its arguments, split like a shell line."""
    try:
        return shlex.split(cmd)
    except ValueError as problem:
        raise AuthorError(f"cmd {cmd!r} cannot be split into arguments: {problem}") from None


def _refuse_impossible(work: ScriptWork) -> None:
    if work.dependencies and work.language == "shell":
        raise AuthorError(
            "dependencies need a language other than shell: set `language`, or install them in the"
            " script"
        )
    for dependency in work.dependencies:
        if dependency.startswith("-") or not dependency.strip():
            raise AuthorError(f"dependency {dependency!r} is not the name of a package")
    for value in (*work.args, work.code or "", work.source or ""):
        if "\0" in value:
            raise AuthorError("a script and its arguments cannot hold NUL characters")


def _choose_node_extension(code: str) -> str:
    return "cjs" if _COMMONJS.search(code) and not _ES_MODULE.search(code) else "mjs"


def _name_environment(work: ScriptWork, image: str) -> str:
    parts = "\0".join((work.language, work.interpreter or "", image, *sorted(work.dependencies)))
    return f"{work.language}-{hashlib.sha256(parts.encode()).hexdigest()[:32]}"
