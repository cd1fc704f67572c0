"""Standard input, output and error as a caller hands them over: closed, in a narrow encoding, on a
full disk, or with a reader that has left."""

from __future__ import annotations

import codecs
import errno
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

INTERRUPTED = 130
STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def settle() -> None:
    """Call this before anything is opened: a file that got the number of a closed stream would
    receive what is printed."""
    for number, (name, mode) in enumerate(STREAMS):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(opened, opened == number)
            setattr(sys, name, os.fdopen(opened, mode, encoding="utf-8"))
    codecs.register_error("stroem.escapes", _escapes)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # tests replace them
        if reconfigure is not None:
            reconfigure(errors="stroem.escapes")


@contextmanager
def guarded() -> Iterator[None]:
    """Ctrl-C and a reader that has left end the program quietly; a full disk is one sentence."""
    try:
        try:
            yield
        except SystemExit:
            sys.stdout.flush()
            raise
        sys.stdout.flush()  # or a full disk would show after the exit code is decided
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader, for example `head`, has seen enough
        if not any(map(_has_no_reader, (sys.stdout.fileno(), sys.stderr.fileno()))):
            raise
        _discard_output()
        sys.exit(1)
    except OSError as error:
        if error.errno not in FULL:
            raise
        _refuse(error)


def _refuse(error: OSError) -> NoReturn:
    _discard_output()
    where = f" to {error.filename}" if error.filename else ""
    reason = (error.strerror or str(error)).lower()
    print(f"error: Nothing more can be written{where}: {reason}.", file=sys.stderr)
    sys.exit(1)


def _has_no_reader(number: int) -> bool:
    """Whether this is a pipe that nobody reads: other connections can break as well."""
    poll = select.poll()
    poll.register(number, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


def _discard_output() -> None:
    """What is left in the buffer must not fail again when the program ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        if stream is sys.stdout or _has_no_reader(stream.fileno()):
            os.dup2(nowhere, stream.fileno())


def _escapes(error: UnicodeError) -> tuple[str, int]:
    """What the encoding lacks, as JSON writes it: so JSON stays JSON, and text can be read."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    pairs = zip(units[::2], units[1::2], strict=True)
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in pairs), error.end
