"""`--input NAME=VALUE`: the value as text, or a file's contents for `NAME=@file`."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterable
from pathlib import Path

from engine.errors import InputError

LARGEST_FILE = 1_000_000


def add_input_option(parser: ArgumentParser, what: str = "an input") -> None:
    help = f"{what}; NAME=@FILE reads the value from a file, NAME=@@TEXT is @TEXT; repeatable"
    parser.add_argument("--input", action="append", default=[], metavar="NAME=VALUE", help=help)


def read_inputs(typed: Iterable[str]) -> dict[str, str]:
    """Texts by name; starting the job converts them. `@@x` means the text `@x`. Raises InputError
    with one sentence."""
    given: dict[str, str] = {}
    for text in typed:
        name, mark, value = text.partition("=")
        if not mark or not name:
            raise InputError({"input": f"--input takes NAME=VALUE, not '{text[:60]}'."})
        if name in given:
            raise InputError({name: f"--input {name} is given twice."})
        given[name] = _value(name, value)
    return given


def _value(name: str, value: str) -> str:
    if value.startswith("@@"):
        return value[1:]
    return _contents(name, Path(value[1:]).expanduser()) if value.startswith("@") else value


def _contents(name: str, path: Path) -> str:
    try:
        with path.open("rb") as handle:
            content = handle.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise InputError({name: f"--input {name}: {path} is larger than 1 MB."})
        return content.decode("utf-8")
    except OSError as error:
        reason = (error.strerror or "it cannot be read").lower()
        raise InputError({name: f"--input {name}: {path} cannot be read: {reason}."}) from None
    except UnicodeDecodeError:
        raise InputError({name: f"--input {name}: {path} is not UTF-8 text."}) from None
