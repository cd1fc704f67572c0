"""The log of one container as a node keeps it: a file that is rotated, of which only the newest can
be read by who comes anew. Who follows keeps the file that it has open, and goes on in the newest."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import docker

BATCH = 500


class NodeLog:
    def __init__(self, frames: Iterable[bytes], file_bytes: int) -> None:
        self._frames = frames
        self._file_bytes = file_bytes
        self._changed = threading.Condition()
        self._newest: list[bytes] = []
        self._size = 0
        self._has_ended = False
        threading.Thread(target=self._collect, daemon=True).start()

    def read(self, follow: bool, since_s: int | None) -> Iterator[list[bytes]]:
        """Batches of lines with stamps. Those older than `since_s` seconds are left out."""
        first = b""
        if since_s is not None:
            begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=since_s)
            first = begin.strftime("%Y-%m-%dT%H:%M:%S").encode()
        with self._changed:
            lines, at = self._newest, 0
        while True:
            with self._changed:
                if at == len(lines) and lines is not self._newest:
                    lines, at = self._newest, 0
                if at == len(lines):
                    if not follow or self._has_ended:
                        return
                    self._changed.wait(0.2)
                    continue
                batch = lines[at : at + BATCH]
            at += len(batch)
            batch = [line for line in batch if line[:19] >= first]
            if batch:
                yield batch

    def wait_for_end(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._has_ended, 60)

    def _collect(self) -> None:
        try:
            for line in _join_partial(self._frames):
                self._append(line)
        except (docker.errors.DockerException, OSError, ValueError):
            pass  # the container is gone, and so is the rest of its log
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def _append(self, line: bytes) -> None:
        with self._changed:
            if self._size >= self._file_bytes:
                self._newest, self._size = [], 0
            self._newest.append(line)
            self._size += len(line)
            self._changed.notify_all()


def _join_partial(frames: Any) -> Iterator[bytes]:
    """Whole lines. Docker stamps every piece of a long line, and its log driver `local` forgets the
    newline after the last piece; a kubelet stamps only the beginning, and keeps the newline."""
    pieces: list[bytes] = []
    for frame in frames:
        text = frame.partition(b" ")[2] if pieces else frame
        if pieces and len(text) < 1 << 14 and not text.endswith(b"\n"):
            text += b"\n"
        pieces.append(text)
        if text.endswith(b"\n"):
            yield b"".join(pieces)
            pieces = []
    if pieces:
        yield b"".join(pieces)
