"""The file of a script as it was saved: the program in its first line, its line ends."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from engine.errors import AuthorError
from engine.orders import ScriptWork
from engine.scripts import ANY_PYTHON, languages_of, read_first_line, refuse_foreign
from runners import anchored

_BOM = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_HEAD_BYTES = 1024


def honour_first_line(work: ScriptWork, root: Path, source: Path | None) -> tuple[ScriptWork, str]:
    """`work` with the program that its first line (`#!`) names, and a note for the log. An
    `interpreter` wins over that line; so does a language that the program does not run."""
    if work.interpreter:
        return work, ""
    code = (
        _read_head(root, source).decode("utf-8", "replace")
        if source is not None
        else work.code or ""
    )
    words = read_first_line(code)
    if not words:
        if work.language == "shell" and (why := refuse_foreign(work.source or "")):
            raise AuthorError(why)
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


def is_binary(root: Path, path: Path) -> bool:
    """Whether this is a compiled program, not text."""
    return b"\0" in _read_head(root, path)


def use_plain_line_ends(root: Path, path: Path, source: str) -> str:
    """Replace the line ends of Windows in a shell script of a working tree, and take a byte order
    mark off; a note for the log if there was any. A shell takes the carriage return as a part of
    each line's last word."""
    with _folder_of(root, path) as (folder, name):
        with _open(name, folder) as file:
            data, found = file.read(), os.fstat(file.fileno())
        if data.startswith(_UTF_16):
            raise AuthorError(f"{source} is UTF-16 text, which no shell reads; save it as UTF-8")
        has_ends = b"\r\n" in data
        if not (has_ends or data.startswith(_BOM)) or b"\0" in data[:_HEAD_BYTES]:
            return ""
        fresh = f".{name[:100]}.stroem"
        fd = os.open(fresh, anchored.FRESH, 0o600, dir_fd=folder)
        with open(fd, "wb") as file:
            file.write(data.removeprefix(_BOM).replace(b"\r\n", b"\n"))
            if os.geteuid() == 0:
                os.fchown(fd, found.st_uid, found.st_gid)
            os.fchmod(fd, stat.S_IMODE(found.st_mode) & 0o777)
        os.replace(fresh, name, src_dir_fd=folder, dst_dir_fd=folder)
    if has_ends:
        return f"{source} has Windows line ends (CR LF); the step runs it with LF"
    return f"{source} begins with a byte order mark; the step runs it without"


def _read_head(root: Path, path: Path) -> bytes:
    with _folder_of(root, path) as (folder, name), _open(name, folder) as file:
        return file.read(_HEAD_BYTES)


def _open(name: str, folder: int) -> BinaryIO:
    fd = os.open(name, anchored.FILE, dir_fd=folder)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return os.fdopen(fd, "rb")
    os.close(fd)
    raise OSError(errno.EINVAL, "it is not a file", name)


@contextmanager
def _folder_of(root: Path, path: Path) -> Iterator[tuple[int, str]]:
    """The directory below `root` where the links of `path` lead, and the name there. A link that a
    process puts there meanwhile is not followed: OSError."""
    real = root.resolve()
    try:
        *folders, name = path.resolve().relative_to(real).parts
    except ValueError:
        raise OSError(errno.ESTALE, "it no longer lies in the workspace", str(path)) from None
    with ExitStack() as opened:
        fd = opened.enter_context(anchored.folder(real))
        for folder in folders:
            fd = opened.enter_context(anchored.folder(folder, fd))
        yield fd, name
