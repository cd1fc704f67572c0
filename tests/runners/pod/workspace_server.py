"""A server that hands a pinned workspace to whoever shows its token."""

from __future__ import annotations

import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import docker


class WorkspaceServer:
    """Serves one tarball to whoever shows the token, on an address that containers can reach."""

    def __init__(
        self, engine: docker.DockerClient, files: dict[str, str], token: str, mode: int
    ) -> None:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            for name, text in files.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(text.encode()), mode
                tar.addfile(entry, io.BytesIO(text.encode()))
        self.data = archive.getvalue()
        self.token = token
        self.paths: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                outer.paths.append(self.path)
                is_known = self.headers.get("Authorization") == f"Bearer {outer.token}"
                self.send_response(200 if is_known else 401)
                self.end_headers()
                if is_known:
                    self.wfile.write(outer.data)

        subnet = engine.networks.get("bridge").attrs["IPAM"]["Config"][0]
        address = subnet.get("Gateway") or subnet["Subnet"].rsplit(".", 1)[0] + ".1"
        self.server = ThreadingHTTPServer((address, 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://{address}:{self.server.server_address[1]}/pinned/revision-1.tar.gz"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
