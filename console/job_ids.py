"""Job ids as people type them: in full, or the first characters if they are unique."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from uuid import UUID

from console.base import PROGRAM
from engine.errors import InputError, NotFound

if TYPE_CHECKING:
    from console.base import PlatformCommand

SHORTEST = 4
_HEX = re.compile(rf"[0-9a-f]{{{SHORTEST},32}}")


def find_job(command: PlatformCommand, typed: str) -> UUID:
    """The job meant by `typed`. Raises InputError if it is not an id, before the platform is
    needed, or not unique; NotFound if there is no such job."""
    digits = typed.strip().lower().replace("-", "")
    if not _HEX.fullmatch(digits):
        wanted = f"give the id, or at least its first {SHORTEST} characters"
        raise InputError({"job": f"'{typed[:60]}' is not a job id: {wanted}"})
    first, last = UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
    found = command.platform.job_ids(first, last, most=6)
    if not found:
        raise NotFound(f"There is no job {typed.strip()}: `{PROGRAM} jobs` lists them")
    if len(found) > 1:
        more = ", ..." if len(found) == 6 else ""
        ids = ", ".join(map(str, found[:5]))
        several = f"several job ids begin with '{typed.strip()}' ({ids}{more})"
        raise InputError({"job": f"{several}: give more characters"})
    return found[0]
