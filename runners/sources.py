"""The file of a script as it was saved: the program in its first line, its line ends."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

from engine.errors import AuthorError
from engine.orders import ScriptWork
from engine.scripts import ANY_PYTHON, languages_of, read_first_line

_BOM = b"\xef\xbb\xbf"
_HEAD_BYTES = 1024


def honour_first_line(work: ScriptWork, source: Path | None) -> tuple[ScriptWork, str]:
    """`work` with the program that its first line (`#!`) names, and a note for the log. An
    `interpreter` wins over that line; so does a language that the program does not run."""
    if work.interpreter:
        return work, ""
    code = _read_head(source) if source is not None else work.code or ""
    words = read_first_line(code)
    if not words:
        return work, ""
    known = languages_of(words)
    if known and work.language not in known:
        if work.language != "shell":
            return work, (
                f"The script's first line names {words[0]}, but its language is {work.language},"
                " which runs it"
            )
        work = replace(work, language=known[0])
    if known and len(words) == 1:
        return replace(work, interpreter=None if words[0] in ANY_PYTHON else words[0]), ""
    if work.dependencies:
        raise AuthorError(
            "'dependencies' need a first line such as #!/usr/bin/env python3, without options; the"
            f" script's first line names {' '.join(words)[:80]}"
        )
    return replace(work, program=words), ""


def _read_head(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES).decode("utf-8", "replace")


def is_binary(path: Path) -> bool:
    """Whether this is a compiled program, not text."""
    with path.open("rb") as file:
        return b"\0" in file.read(_HEAD_BYTES)


def use_plain_line_ends(path: Path) -> bool:
    """Replace the line ends of Windows in a shell script of a working tree; True if it had any. A
    shell takes the carriage return as a part of each line's last word."""
    data = path.read_bytes()
    if (b"\r\n" not in data and not data.startswith(_BOM)) or b"\0" in data[:_HEAD_BYTES]:
        return False
    path = path.resolve()
    found = path.stat()
    fresh = path.with_name(f".{path.name[:100]}.stroem")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(fd, "wb") as file:
        file.write(data.removeprefix(_BOM).replace(b"\r\n", b"\n"))
        if os.geteuid() == 0:
            os.fchown(file.fileno(), found.st_uid, found.st_gid)
        os.fchmod(file.fileno(), stat.S_IMODE(found.st_mode))
    os.replace(fresh, path)
    return True


def describe_line_ends(source: str) -> str:
    """The note for the log about a converted source."""
    return f"{source} has Windows line ends (CR LF); the step runs it with LF"
