"""Why the system refused to start a process."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.errors import AuthorError, PlatformError


def explain(
    error: OSError, argv: Sequence[str], cwd: Path, env: Mapping[str, str]
) -> AuthorError | PlatformError:
    """The error of a process that could not be started."""
    program = argv[0]
    match error.errno:
        case errno.ENOENT | errno.EACCES | errno.ENOTDIR if error.filename == os.fspath(cwd):
            return AuthorError(
                f"the working directory {cwd.name!r} is not a directory that the step may enter"
            )
        case errno.ENOENT:
            return AuthorError(
                f"the program {program!r}, or the interpreter its first line names, was not found"
            )
        case errno.EACCES:
            return AuthorError(
                f"the program {program!r} may not be executed; check its mode and its directory's"
            )
        case errno.ENOEXEC:
            return AuthorError(
                f"{program!r} is not a program; begin it with a line such as #!/bin/sh"
            )
        case errno.E2BIG:
            size = sum(len(arg) for arg in argv) + sum(len(k) + len(v) for k, v in env.items())
            return AuthorError(
                f"arguments and environment of the step are too long for this system ({size}"
                " characters); pass large values in a file"
            )
        case _:
            return PlatformError(f"the process could not be started: {error.strerror}")
