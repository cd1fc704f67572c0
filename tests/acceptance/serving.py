"""A real server process on the test's own database, and somebody who may do everything in it."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from datetime import UTC, datetime
from typing import Any

from apps.accounts import tokens
from apps.accounts.models import User
from tests.acceptance.house import free_port
from tests.apps.jobs.builders import until
from tests.house import House


class Served:
    def __init__(self, house: House) -> None:
        self.port = free_port()
        self.process: subprocess.Popen[bytes] = house.start("server", "--port", str(self.port))
        rights = {"is_superuser": True, "is_staff": True}
        person = User.objects.create_user("root@example.org", "correct horse battery", **rights)
        self.token = tokens.issue_access(person, datetime.now(UTC))
        until(self._answers, within_s=30, every_s=0.1)

    def _answers(self) -> bool:
        assert self.process.poll() is None, "the server has ended"
        try:
            return self.ask("/healthz")[0] == 200
        except OSError:
            return False

    def ask(self, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON of one request to the API."""
        status, text = self.fetch(path, body)
        return status, json.loads(text or "null")

    def fetch(self, path: str, body: Any = None) -> tuple[int, str]:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data=data, headers=headers
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace")

    def execute(self, workspace: str, task: str, **given: Any) -> str:
        status, answer = self.ask(
            f"/api/workspaces/{workspace}/tasks/{task}/execute", {"input": given}
        )
        assert status in (200, 201, 202), answer
        return str(answer["job_id"])
