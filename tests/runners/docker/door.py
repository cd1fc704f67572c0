"""A way from this host's loopback to a port in another network namespace, that a test can cut."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import threading
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


class Door:
    """Forwards each connection byte by byte. `cut` ends all that are open, `is_open` tells whether
    new ones are taken."""

    def __init__(self, namespace: str, port: int) -> None:
        self._namespace = namespace
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self.is_open = True
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, *, is_rude: bool = False) -> int:
        """End every open connection; rudely with a reset. Returns their number."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for side in (side for pair in pairs for side in pair):
            with contextlib.suppress(OSError):
                if is_rude:  # then closing it sends a reset
                    linger = struct.pack("ii", 1, 0)
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                side.shutdown(socket.SHUT_RD if is_rude else socket.SHUT_RDWR)
        return len(pairs)

    def close(self) -> None:
        self.is_open = False
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._listener.accept()
            except OSError:
                return
            if self.is_open:
                threading.Thread(target=self._serve, args=(here,), daemon=True).start()
            else:
                here.close()

    def _serve(self, here: socket.socket) -> None:
        # only this thread enters the namespace, and its socket stays there
        with Path(f"/run/netns/{self._namespace}").open("rb") as namespace:
            if _LIBC.setns(namespace.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        try:
            there = socket.create_connection(("127.0.0.1", self._target), 10)
        except OSError:
            here.close()
            return
        there.settimeout(None)
        with self._lock:
            self._pairs.append((here, there))
        back = threading.Thread(target=self._pump, args=(there, here), daemon=True)
        back.start()
        self._pump(here, there)
        back.join()
        with self._lock, contextlib.suppress(ValueError):
            self._pairs.remove((here, there))
        here.close()
        there.close()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        with self._lock:
            is_cut = not any(source in pair for pair in self._pairs)
        if not is_cut:
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_WR)
