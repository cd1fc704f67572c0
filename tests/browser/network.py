"""A network for Chromium alone. It drops its requests whenever the host gains or loses an address, as
tests of containers in other processes make it do, so it gets a namespace with nothing but loopback,
and a SOCKS proxy there that connects from the host."""

from __future__ import annotations

import asyncio
import ctypes
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from ipaddress import ip_address
from pathlib import Path

CLONE_NEWNET = 0x40000000
PROXY_PORT = 1080
FLAGS = (f"--proxy-server=socks5://127.0.0.1:{PROXY_PORT}", "--proxy-bypass-list=<-loopback>")
SUCCEEDED, REFUSED = b"\x05\x00\x00\x01" + bytes(6), b"\x05\x05\x00\x01" + bytes(6)


@contextmanager
def alone(program: str, folder: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The program to launch in place of `program`, and its further flags. Without the right to make
    a namespace, these are `program` itself and none."""
    if shutil.which("unshare") is None:
        yield program, ()
        return
    home = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec sleep infinity"],
        stdout=subprocess.PIPE,
    )
    try:
        assert home.stdout is not None
        if home.stdout.readline() != b"up\n":
            yield program, ()
            return
        wrapper = folder / "chromium"
        wrapper.write_text(
            f'#!/bin/sh\nexec nsenter --net=/proc/{home.pid}/ns/net {program} "$@"\n'
        )
        wrapper.chmod(0o755)
        with closing(_listener(home.pid)) as listener:
            threading.Thread(target=asyncio.run, args=(_serve(listener),), daemon=True).start()
            yield str(wrapper), FLAGS
    finally:
        home.kill()
        home.wait()


def _listener(pid: int) -> socket.socket:
    """A socket that listens in the namespace of `pid`: one belongs to where its thread stood."""
    made: list[socket.socket] = []

    def make() -> None:
        with open(f"/proc/{pid}/ns/net") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        made.append(socket.create_server(("127.0.0.1", PROXY_PORT), backlog=256))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


async def _serve(listener: socket.socket) -> None:
    server = await asyncio.start_server(_connect, sock=listener)
    await server.serve_forever()


async def _connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """RFC 1928, as far as Chromium uses it: no authentication, CONNECT only."""
    try:
        _, methods = await reader.readexactly(2)
        await reader.readexactly(methods)
        writer.write(b"\x05\x00")
        kind = (await reader.readexactly(4))[3]
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            host = str(ip_address(await reader.readexactly(4 if kind == 1 else 16)))
        port = int.from_bytes(await reader.readexactly(2), "big")
        try:
            theirs = await asyncio.open_connection(host, port)
        except OSError:
            writer.write(REFUSED)
            return
        writer.write(SUCCEEDED)
        await asyncio.gather(_pump(reader, theirs[1]), _pump(theirs[0], writer))
    except (OSError, asyncio.IncompleteReadError):
        pass  # who hangs up in mid-sentence is gone
    finally:
        writer.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while piece := await source.read(65536):
            sink.write(piece)
            await sink.drain()
    finally:
        sink.close()
