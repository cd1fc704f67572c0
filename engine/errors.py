"""One tree of errors; the message is written for the person who has to change something.

StroemError +-- AuthorError            the workspace, a template or an input is wrong: another
attempt cannot help |   +-- SpecError          one or more problems found in workspace files |   +--
TemplateError      a template does not parse, or fails, or asks for too much |   +-- InputError
the caller's input does not fit the declared fields |   +-- NotFound           the thing named does
not exist +-- Conflict               the thing is not in a state in which this can be done |   +--
StaleMove          somebody else moved the row first +-- PlatformError          ours, or the
machine's: another attempt can help
"""

from __future__ import annotations

from typing import ClassVar, Literal

Fault = Literal["author", "caller", "platform"]


class StroemError(Exception):
    """Root of the tree. `str(error)` is one sentence that tells the reader what to change."""

    code: ClassVar[str] = "error"
    fault: ClassVar[Fault] = "platform"
    may_retry: ClassVar[bool] = False


class AuthorError(StroemError):
    code = "author"
    fault: ClassVar[Fault] = "author"


class TemplateError(AuthorError):
    code = "template"


class InputError(AuthorError):
    """`problems` maps a field name to one sentence; the whole reads as those sentences joined."""

    code = "input"
    fault = "caller"

    def __init__(self, problems: dict[str, str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems.values()))


class NotFound(AuthorError):
    code = "not_found"
    fault = "caller"


class Conflict(StroemError):
    code = "conflict"
    fault = "caller"


class StaleMove(Conflict):
    code = "stale"


class PlatformError(StroemError):
    code = "platform"
    may_retry = True
