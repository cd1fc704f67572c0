"""Runs the programs that resolve secrets: with no more of the environment than they need, without a
view of other processes where the host allows that, within limits of time and memory."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import lru_cache

MEMORY_BYTES = 1_000_000_000
TRIAL_S = 5
_PASSED_ON = (
    "PATH",
    "HOME",
    "LANG",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
)


def run(
    program: str, *arguments: str, given: bytes, variables: Collection[str], seconds: float
) -> subprocess.CompletedProcess[bytes]:
    """Run `program`. `variables` are prefixes of what it sees of our environment beside the path,
    home, locale, certificates and proxies.

    Raises subprocess.TimeoutExpired, and OSError if it cannot be run.
    """
    process = subprocess.Popen(
        [*_fence(), program, *arguments],
        env=_environment(tuple(variables)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        out, err = process.communicate(given, timeout=seconds)
    finally:
        end(process)
    return subprocess.CompletedProcess([program], process.returncode, out, err)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a program with all that it started; does nothing if it has ended."""
    if process.poll() is not None:
        return
    end_family = _family_of(process)
    process.kill()
    process.wait()
    end_family()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


def _family_of(process: subprocess.Popen[bytes]) -> Callable[[], None]:
    """Kills what the program has started until now."""
    try:
        import psutil
    except ImportError:  # in the client, with a person in front of it
        return lambda: None
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.Error:
        family = []

    def end_all() -> None:
        for one in family:
            with suppress(psutil.Error):
                one.kill()

    return end_all


def _environment(variables: tuple[str, ...]) -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or name.startswith(variables)
    }


@lru_cache(maxsize=1)
def _fence() -> tuple[str, ...]:
    """The programs in front: a process namespace with a /proc of its own, and a limit of memory."""
    found: tuple[str, ...] = ()
    unshare, prlimit = shutil.which("unshare"), shutil.which("prlimit")
    if unshare:
        own = (unshare, "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
        as_user = (own[0], "--user", "--map-current-user", *own[1:])
        found = own if _works(own) else as_user if _works(as_user) else ()
    limited = (prlimit, f"--data={MEMORY_BYTES}", "--core=0") if prlimit else ()
    return (*found, *limited) if limited and _works((*found, *limited)) else found


def _works(fence: tuple[str, ...]) -> bool:
    try:
        done = subprocess.run(
            [*fence, "true"],
            env=_environment(()),
            capture_output=True,
            timeout=TRIAL_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
