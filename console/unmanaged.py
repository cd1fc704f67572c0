"""Commands of the client: the small part of Django's command class that ours use."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TextIO

if TYPE_CHECKING:
    from console.port import Platform

__all__ = ["PROGRAM", "CommandError", "OurCommand", "PlatformCommand", "add_actor"]
PROGRAM = "stroem"


class CommandError(Exception):
    def __init__(self, *args: object, returncode: int = 1) -> None:
        self.returncode = returncode
        super().__init__(*args)


def add_actor(parser: ArgumentParser, what: str) -> None:
    """Who has signed in acts, and nobody else."""
    parser.set_defaults(email=None)


class Out:
    """Ends what is written with a newline."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, text: str = "") -> None:
        self._out.write(text if text.endswith("\n") else text + "\n")

    def flush(self) -> None:
        self._out.flush()


class OurCommand:
    help = ""

    def __init__(self) -> None:
        self.stdout, self.stderr = Out(sys.stdout), Out(sys.stderr)

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Subclasses add theirs."""

    def handle(self, *args: Any, **options: Any) -> None:
        raise NotImplementedError


class PlatformCommand(OurCommand):
    """`connect` opens the platform with the options of the command line; the client sets it."""

    connect: ClassVar[Callable[[Mapping[str, Any]], Platform]]
    options: Mapping[str, Any] = {}

    @contextmanager
    def telling(self) -> Iterator[None]:
        """What the server says against it comes as a StroemError already."""
        yield

    @cached_property
    def platform(self) -> Platform:
        return type(self).connect(self.options)
