"""A server as pods see it: it gives and takes archives, and says when an image has ended."""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import docker

from apps.artifacts.questions import MOST_BYTES
from engine.orders import Pinned, Shelves


class Shop:
    """Takes and gives archives, as the server does."""

    def __init__(self, engine: docker.DockerClient) -> None:
        self.got: dict[str, bytes] = {}
        self.answers: list[tuple[int, str]] = []
        self.numbers: list[str] = []
        self.asked: list[list[str]] = []  # by `stroem-step`
        self.replies: list[tuple[int, bytes]] = []
        self.ends: list[int] = []  # of an image
        self.end_status: int | None = None  # in place of what is known
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                if self.path.endswith("/end"):
                    known = outer.end_status or (200 if outer.ends else 204)
                    self._say(known, str(outer.ends[-1]).encode() if known == 200 else b"")
                    return
                data = (
                    archive({"build/a.txt": b"given"}) if "artifacts" in self.path else archive({})
                )
                self._say(200, data)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if len(body) > MOST_BYTES:
                    self._say(200, b"65 9\ntoo much\n")
                    return
                count, *words = body.decode().split("\0")
                assert int(count) == len(words) - 1
                outer.asked.append(words[:-1])
                status, data = outer.replies.pop(0) if outer.replies else (200, b"0 0\n")
                self._say(status, data)

            def do_PUT(self) -> None:
                body = b"".join(self._chunks())
                status, said = outer.answers.pop(0) if outer.answers else (200, "Stored it\n")
                if status == 200:
                    outer.numbers.append(self.headers["X-Stroem-Files"])
                    with tarfile.open(fileobj=io.BytesIO(body)) as found:
                        for entry in found:
                            content = found.extractfile(entry) if entry.isreg() else None
                            if content is not None:
                                outer.got[entry.name] = content.read()
                self._say(status, said.encode())

            def _chunks(self) -> Iterator[bytes]:
                while size := int(self.rfile.readline(), 16):
                    yield self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()

            def _say(self, status: int, data: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        subnet = engine.networks.get("bridge").attrs["IPAM"]["Config"][0]
        address = subnet.get("Gateway") or subnet["Subnet"].rsplit(".", 1)[0] + ".1"
        self.server = ThreadingHTTPServer((address, 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://{address}:{self.server.server_address[1]}"

    def shelves_of_image(self, **fields: Any) -> Shelves:
        return self.shelves(tell_end=self.ends.append, **fields)

    def shelves(self, **fields: Any) -> Shelves:
        parcel = Pinned(f"{self.url}/worker/artifacts", "pass")
        return Shelves(Path("/nowhere"), parcel=parcel, **fields)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def archive(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz" if not files else "w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    return made.getvalue()
