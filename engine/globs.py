"""Globs over relative paths: `*` and `?` within a name, `[ab]`, and `**` for any folders."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import re2

LONGEST = 200
_PIECE = re.compile(r"\*\*/|\*\*|\*|\?|\[[^\]/]+\]|[^*?\[]+|\[")


def find_objection(glob: str) -> str | None:
    """Why this is no glob for paths below a directory; None if it is one."""
    parts = glob.split("/")
    if not glob or len(glob) > LONGEST or not glob.isprintable():
        return f"must be a path of at most {LONGEST} letters, such as build/*.jar"
    if glob.startswith("/") or ".." in parts:
        return "leads out of the working directory: write a path below it, without '..'"
    if any(part in ("", ".") for part in parts):
        return "has an empty part: write a path such as build/*.jar"
    return None


def matcher(globs: Iterable[str]) -> Callable[[str], bool]:
    """Whether one of the globs matches a whole path. Takes linear time, whatever the glob."""
    options = re2.Options()
    options.log_errors = False
    text = "|".join(map(_translate, globs))
    found = re2.compile(text or r"[^\s\S]", options)
    return lambda path: found.fullmatch(path) is not None


def folder_of(glob: str) -> str:
    """The folders before the first wildcard: nothing outside them can match."""
    whole, parts = [], glob.split("/")
    for part in parts[:-1]:
        if set("*?[") & set(part):
            break
        whole.append(part)
    return "/".join(whole)


def _translate(glob: str) -> str:
    return "".join(map(_piece, _PIECE.findall(glob)))


def _piece(piece: str) -> str:
    if piece.startswith("[") and len(piece) > 2:
        inner = piece[1:-1].replace("\\", "\\\\").replace("[", "\\[").replace("^", "\\^")
        return f"[^{inner[1:]}/]" if inner.startswith("!") and len(inner) > 1 else f"[{inner}]"
    known = {"**/": r"(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return known.get(piece) or re.escape(piece)
