"""The process that reads workspaces: takes requests, a line each, and answers each with a line.

It limits itself before it reads anything, and ends with its owner, whose end of the pipe closes.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

import django

NICENESS = 10  # sweeps and claims come first
ALONE_S = 30  # how long a read may outlive its limit if nobody is left to end it
KEPT_KB = 250_000  # a process that once was larger is replaced
log = logging.getLogger("stroem.refreshing")


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    django.setup()
    requests: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    _limit()
    answers.write('{"ready": true}\n')
    answers.flush()
    while True:
        answer = _answer(json.loads(requests.get()))
        is_over = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > KEPT_KB
        answers.write(json.dumps({**answer, "is_over": is_over}) + "\n")
        answers.flush()


def _listen(requests: SimpleQueue[bytes]) -> None:
    for line in sys.stdin.buffer:
        requests.put(line)
    shutil.rmtree(tempfile.gettempdir(), ignore_errors=True)  # made by the owner, who has gone
    os.killpg(0, signal.SIGKILL)


def _limit() -> None:
    from django.conf import settings

    limits = settings.STROEM.refresh
    memory, disk = limits.memory_mb * 1_000_000, 4 * limits.workspace_mb * 1_000_000
    for what, most in (
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_FSIZE, disk),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with suppress(ValueError, OSError):  # not every system knows every limit
            resource.setrlimit(what, (most, most))
    with suppress(OSError):
        os.nice(NICENESS)


def _answer(asked: dict[str, Any]) -> dict[str, str]:
    from django.conf import settings
    from django.db import DatabaseError, close_old_connections

    limits = settings.STROEM.refresh
    signal.alarm(int(limits.timeout_s) + ALONE_S)
    try:
        return _read(asked["workspace"], only_if_changed=asked["only_if_changed"])
    except MemoryError:
        return _stopped(f"reading it needed more than {limits.memory_mb} MB of memory")
    except DatabaseError as error:
        return {"kind": "failed", "why": f"the database did not take it ({type(error).__name__})"}
    except Exception as error:  # an outer edge: a source that breaks its reader is left alone
        log.exception("reading workspace %s failed", asked["workspace"])
        return _stopped(f"its reader failed ({type(error).__name__}); the server's log says where")
    finally:
        signal.alarm(0)
        close_old_connections()


def _stopped(why: str) -> dict[str, str]:
    return {"kind": "stopped", "why": why}


def _read(workspace_id: int, *, only_if_changed: bool) -> dict[str, str]:
    from apps.workspaces import services
    from apps.workspaces.errors import LIMIT
    from apps.workspaces.models import Workspace

    row = Workspace.objects.select_related("current").filter(pk=workspace_id).first()
    if row is None:
        return {"kind": "read", "why": ""}
    read = services.refresh_if_changed(row) if only_if_changed else services.refresh(row)
    exceeded = [problem["message"] for problem in read.problems if problem["code"] == LIMIT]
    return _stopped(exceeded[0]) if exceeded else {"kind": "read", "why": ""}
