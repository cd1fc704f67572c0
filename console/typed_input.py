"""What is given to a command beside its words: `--input NAME=VALUE`, text as it is typed,
`--input-file NAME=PATH`, a file's contents, and secret values from a file or standard input."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Collection, Iterable
from pathlib import Path

from engine.errors import InputError
from engine.plain import plain

LARGEST_FILE = 1_000_000


def add_input_options(parser: ArgumentParser, what: str = "an input") -> None:
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"{what}, as text; repeatable",
    )
    parser.add_argument(
        "--input-file",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help=f"{what}, read from a file; repeatable",
    )


def read_inputs(typed: Iterable[str], files: Iterable[str] = ()) -> dict[str, str]:
    """Texts by name; starting the job converts them. Raises InputError with one sentence."""
    given: dict[str, str] = {}
    for text in typed:
        name, value = _parted("--input", "NAME=VALUE", text, given)
        given[name] = value
    for text in files:
        name, value = _parted("--input-file", "NAME=PATH", text, given)
        given[name] = _contents(name, value)
    return given


def _parted(option: str, wanted: str, text: str, given: Collection[str]) -> tuple[str, str]:
    name, mark, value = text.partition("=")
    if not mark or not name:
        raise InputError({"input": f"{option} takes {wanted}, not '{plain(text[:60])}'."})
    if name in given:
        raise InputError({name: f"{option} {name}: the input is given twice."})
    return name, value


def _contents(name: str, typed: str) -> str:
    where = f"--input-file {name}"
    if not typed or "\0" in typed:
        raise InputError({name: f"{where} needs the path of a file, not {typed[:60]!r}."})
    path = Path(typed).expanduser()
    try:
        with path.open("rb") as handle:
            content = handle.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise InputError({name: f"{where}: {plain(path)} is larger than 1 MB."})
        return content.decode("utf-8")
    except OSError as error:
        reason = (error.strerror or "it cannot be read").lower()
        raise InputError({name: f"{where}: {plain(path)} cannot be read: {reason}."}) from None
    except UnicodeDecodeError:
        raise InputError({name: f"{where}: {plain(path)} is not UTF-8 text."}) from None


def read_secretly(file: str | None, what: str) -> bytes:
    """The value or values (`what`) in the file, else on standard input. No message repeats any of
    it."""
    where = file or "standard input"
    try:
        if file is None:
            content = sys.stdin.buffer.read(LARGEST_FILE + 1)
        else:
            with Path(file).expanduser().open("rb") as handle:
                content = handle.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it cannot be read"
        raise InputError({"from_file": f"--from-file: {where[:200]!r}: {reason}"}) from None
    if len(content) > LARGEST_FILE:
        words = "the value is" if what == "value" else f"the {what} are"
        raise InputError({what: f"{where}: {words} larger than 1 MB"})
    return content
