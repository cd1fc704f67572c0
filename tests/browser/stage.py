"""A complete installation for browsers: server, scheduler and worker, on the database of this test
process."""

from __future__ import annotations

import os
import socket
import time
import urllib.error
import urllib.request
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import Group
from django.db import connection

from apps.accounts import sessions
from apps.accounts.models import Role, User, WorkspaceGrant
from apps.jobs import services
from apps.jobs.models import Job, Step
from apps.workspaces.models import Workspace
from apps.workspaces.services import import_folder
from tests.apps.jobs.builders import until
from tests.house import House

PASSWORD = "correct-horse-7"
FILES = Path(__file__).parent / "workspaces"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Stage:
    """Users and the workspace `site`; `url` is the address of the server."""

    def __init__(self, folder: Path) -> None:
        parts = urlsplit(os.environ["STROEM__DB__URL"])
        db_url = urlunsplit(parts._replace(path=f"/{connection.settings_dict['NAME']}"))
        self.port = free_port()
        self.url = f"http://localhost:{self.port}"  # passkeys need a name
        env = {
            **os.environ,
            "STROEM__DB__URL": db_url,
            "STROEM__AUTH__BASE_URL": self.url,
            "STROEM__MCP__ENABLED": "true",
            "STROEM__AUTH__PROVIDERS__COMPANY__DISPLAY_NAME": "Company",
            "STROEM__AUTH__PROVIDERS__COMPANY__ISSUER_URL": "http://127.0.0.1:9",  # nobody there
            "STROEM__AUTH__PROVIDERS__COMPANY__CLIENT_ID": "stroem",
        }
        self.folder = folder
        self.house = House(folder, env)
        self.site = self.workspace("site", (FILES / "site.yaml").read_text())
        # more than a screen shows: some lie under the bar with the buttons
        Group.objects.bulk_create(Group(name=f"team {number:02}") for number in range(30))
        self.root = User.objects.create_superuser("root@example.org", PASSWORD)
        self.olga = self.person("olga@example.org", Role.OPERATOR)
        self.otto = self.person("otto@example.org", Role.OPERATOR)
        self.vera = self.person("vera@example.org", Role.VIEWER)
        self.nobody = self.person("nobody@example.org")

    def open(self) -> None:
        self.server = self.house.start("server", "--port", str(self.port))
        self.house.scheduler()
        self.house.worker("stage", slots=8)
        until(self._answers, within_s=60)

    def _answers(self) -> bool:
        assert self.server.poll() is None, (self.folder / "server.log").read_text()[-2000:]
        try:
            return bool(urllib.request.urlopen(f"{self.url}/admin/login/", timeout=5).status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def close(self) -> None:
        self.house.close()

    def person(self, email: str, role: Role | None = None, pattern: str = "*") -> User:
        user = User.objects.create_user(email, PASSWORD)
        if role:
            WorkspaceGrant.objects.create(user=user, pattern=pattern, role=role)
        return user

    def workspace(self, name: str, text: str) -> Workspace:
        root = self.folder / "workspaces" / name
        root.mkdir(parents=True)
        (root / "flow.yaml").write_text(text)
        found = import_folder(name, root)
        assert not found.has_failed, found.problems
        return found

    def has(self, name: str) -> bool:
        return Workspace.objects.filter(name=name).exists()

    def cookie(self, user: User) -> dict[str, Any]:
        """The session cookie of a signed-in user."""
        session = import_module(settings.SESSION_ENGINE).SessionStore()
        session[SESSION_KEY] = str(user.pk)
        session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
        session[HASH_SESSION_KEY] = user.get_session_auth_hash()
        session[sessions.AT] = int(time.time())
        session.save()
        return {"name": settings.SESSION_COOKIE_NAME, "value": session.session_key, "url": self.url}

    def start(
        self, task: str, user: User | None = None, workspace: str = "site", /, **given: Any
    ) -> Job:
        return services.start_job(
            workspace, task, given, source_type="user", user=user or self.olga
        )

    def job_url(self, job: Job) -> str:
        return f"{self.url}/admin/jobs/job/{job.pk}/change/"

    def until_job(self, job: Job, *statuses: str) -> Job:
        until(lambda: Job.objects.get(pk=job.pk).status in statuses, within_s=60)
        return Job.objects.get(pk=job.pk)

    def until_step(self, job: Job, name: str, *statuses: str) -> Step:
        until(lambda: Step.objects.get(job_id=job.pk, name=name).status in statuses, within_s=60)
        return Step.objects.get(job_id=job.pk, name=name)
