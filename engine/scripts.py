"""Which program runs a script: its extension, and a first line that begins with `#!`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Literal

Language = Literal["shell", "python", "javascript", "typescript", "go"]
EXTENSIONS: Mapping[str, Language] = {
    ".sh": "shell", ".bash": "shell",
    ".py": "python",
    ".js": "javascript", ".mjs": "javascript", ".cjs": "javascript",
    ".ts": "typescript", ".mts": "typescript", ".cts": "typescript",
    ".go": "go",
}  # fmt: skip
# Program -> the languages it runs, the one it is most used for first.
PROGRAMS: Mapping[str, tuple[Language, ...]] = {
    **dict.fromkeys(("sh", "bash", "dash", "ash", "ksh", "zsh"), ("shell",)),
    **dict.fromkeys(("python", "pypy", "uv"), ("python",)),
    "node": ("javascript", "typescript"),
    "bun": ("javascript", "typescript"),
    "deno": ("typescript", "javascript"),
    **dict.fromkeys(("tsx", "ts-node"), ("typescript",)),
}
# Extensions of languages that no runner of ours knows -> the program that usually runs them.
FOREIGN: Mapping[str, str] = {
    ".rb": "ruby", ".pl": "perl", ".php": "php", ".r": "Rscript", ".jl": "julia", ".lua": "lua",
    ".ps1": "pwsh", ".tcl": "tclsh", ".exs": "elixir", ".java": "java", ".awk": "awk",
}  # fmt: skip
ANY_PYTHON = frozenset({"python", "python3"})  # these leave the choice to the worker


def language_of_file(path: str) -> Language | None:
    """By its extension; None if that is no language of ours."""
    return EXTENSIONS.get(PurePosixPath(path).suffix.lower())


def refuse_foreign(path: str) -> str:
    """Why a shell must not run this source, which names no program; empty if it may."""
    program = FOREIGN.get(PurePosixPath(path).suffix.lower())
    if program is None:
        return ""
    return (
        f"{path} is no shell script: let its first line name the program that runs it"
        f" (#!/usr/bin/env {program}), or set 'interpreter: {program}'"
    )


def read_first_line(code: str) -> tuple[str, ...]:
    """The words after `#!` in the first line of `code`, without `env`; empty if there is none.

    Unlike the kernel, it takes each word as an argument of its own, as `env -S` does.
    """
    line = code.lstrip("\ufeff")[:1000].partition("\n")[0]
    if not line.startswith("#!"):
        return ()
    words = line[2:].split()
    if words and PurePosixPath(words[0]).name == "env":
        rest = words[2:] if words[1:2] == ["-S"] else words[1:]
        if rest and not rest[0].startswith("-") and "=" not in rest[0]:
            return tuple(rest)
        return (words[0], *rest) if rest else ()
    return tuple(words)


def languages_of(words: tuple[str, ...]) -> tuple[Language, ...]:
    """The languages that this program is known to run, the usual one first."""
    name = PurePosixPath(words[0]).name if words else ""
    return PROGRAMS.get(name) or PROGRAMS.get(name.rstrip("0123456789.-")) or ()
