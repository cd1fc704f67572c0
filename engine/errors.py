"""The error classes; messages are written for the person who must fix the problem."""

from __future__ import annotations


class StroemError(Exception):
    """The base class. `str(error)` is one sentence that tells the reader what to change."""


class AuthorError(StroemError):
    """The workspace, a template or an input is wrong: another attempt cannot help."""


class TemplateError(AuthorError):
    """A template does not parse, fails, or exceeds its limits."""


class InputError(AuthorError):
    """The caller's input does not fit the declared fields. `problems` maps a field name to one
    sentence; the whole reads as those sentences joined."""

    def __init__(self, problems: dict[str, str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems.values()))


class NotFound(AuthorError):
    """The named object does not exist."""


class Conflict(StroemError):
    """The object's state does not allow the operation."""


class StaleMove(Conflict):
    """Another transaction moved the row first."""


class PlatformError(StroemError):
    """A fault of the platform or the machine: another attempt can help."""
