"""One tree of errors; the message is written for the person who has to change something."""

from __future__ import annotations


class StroemError(Exception):
    """Root of the tree. `str(error)` is one sentence that tells the reader what to change."""


class AuthorError(StroemError):
    """The workspace, a template or an input is wrong: another attempt cannot help."""


class TemplateError(AuthorError):
    """A template does not parse, fails, or asks for too much."""


class InputError(AuthorError):
    """The caller's input does not fit the declared fields. `problems` maps a field name to one
    sentence; the whole reads as those sentences joined."""

    def __init__(self, problems: dict[str, str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems.values()))


class NotFound(AuthorError):
    """The thing named does not exist."""


class Conflict(StroemError):
    """The thing is not in a state in which this can be done."""


class StaleMove(Conflict):
    """Somebody else moved the row first."""


class PlatformError(StroemError):
    """Ours, or the machine's fault: another attempt can help."""
