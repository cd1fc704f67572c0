"""Runs the MCP server of the tests over HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path
from socket import create_connection

from tests.acceptance.house import free_port

SERVER = Path(__file__).with_name("mcp_server.py")
HTTP_RULES = (ip_network("127.0.0.0/8"),)


@contextmanager
def http_server(**env: str) -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen([sys.executable, str(SERVER), str(port)], env=os.environ | env)
    try:
        while True:
            try:
                create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, "the MCP server did not start"
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.kill()
        process.wait(10)
