"""A server that is a program of this host."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from engine.agents.servers import Server
from runners.host.environment import User, find_user
from runners.mcp import keeper
from runners.mcp.errors import ServerError

# Of ours, what a program may see: where programs are, where to write, in which language.
PASSED = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR")
KEPT = 2_000  # bytes of what it complains
_EXIT_S, _KILL_S = 2.0, 3.0


class Program:
    """The bytes of its input and output. See `lines.Wire`."""

    def __init__(self, process: asyncio.subprocess.Process, home: str) -> None:
        assert process.stdin is not None and process.stdout is not None
        assert process.stderr is not None
        self.complaint = ""
        self._process, self._home = process, home
        self._stdin, self._stdout = process.stdin, process.stdout
        self._said = b""
        self._listening = asyncio.create_task(self._listen(process.stderr))

    async def _listen(self, errors: asyncio.StreamReader) -> None:
        while data := await errors.read(4096):
            self._said = (self._said + data)[-KEPT:]

    async def receive(self) -> bytes:
        data = await self._stdout.read(1 << 16)
        if not data:
            await self._note_end()
        return data

    async def _note_end(self) -> None:
        """How it ended, with its last words."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), _EXIT_S)
            await asyncio.wait_for(asyncio.shield(self._listening), _EXIT_S)
        words = " ".join(self._said.decode("utf-8", "replace").split())[-500:]
        code = self._process.returncode
        end = "it closed its output" if code is None else f"it ended with exit code {code}"
        self.complaint = f"{end}, saying: {words}" if words else self.complaint or end

    async def send(self, data: bytes) -> None:
        self._stdin.write(data)
        await self._stdin.drain()

    async def close(self) -> None:
        """As the protocol wants: close its input, then TERM; the keeper ends whatever is left."""
        self._stdin.close()
        if not await self._ended_within(_EXIT_S):
            self._signal(signal.SIGTERM)
            if not await self._ended_within(_KILL_S):
                self._signal(signal.SIGKILL)
                await self._ended_within(_EXIT_S)
        self._listening.cancel()
        await asyncio.to_thread(shutil.rmtree, self._home, True)

    async def _ended_within(self, seconds: float) -> bool:
        """Not `wait`: that waits for the pipes, too, which others may hold open."""
        for _ in range(int(seconds / 0.02)):
            if self._process.returncode is not None:
                return True
            await asyncio.sleep(0.02)
        return False

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def environment(server: Server, home: str, ours: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Never ours: our own keys are in it."""
    return {
        **{name: ours[name] for name in PASSED if name in ours},
        "HOME": home,
        "TMPDIR": home,
        **server.env,
    }


def _word(user: User | None) -> str:
    """As the keeper reads it."""
    return "" if user is None else ":".join(map(str, (user.uid, user.gid, *user.groups)))


async def start(server: Server, run_as: str | None = None) -> Program:
    """Raises ServerError, PlatformError. It works in an empty folder of its own, which ends with
    it, as the system user `run_as`."""
    user = None if run_as is None else find_user(run_as)
    found = shutil.which(server.command)  # by our PATH, whatever its own says
    if found is None:
        raise ServerError(f"the command '{server.command}' is not installed on this host")
    home = tempfile.mkdtemp(prefix="stroem-mcp-")
    if user is not None:
        os.chown(home, *user.owner)
    # A keeper of its own group and session: its signals are never ours.
    argv = [
        sys.executable, "-I", "-S", os.fspath(Path(keeper.__file__).resolve()), str(os.getpid()),
        home, _word(user), found, *server.args,
    ]  # fmt: skip
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(server, home),
            cwd="/",
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        shutil.rmtree(home, ignore_errors=True)
        raise ServerError(f"the command '{server.command}' cannot be started: {error}") from None
    return Program(process, home)
