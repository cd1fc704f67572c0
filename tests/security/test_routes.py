"""A step under `run_as` tries every known way to a credential of the worker or the host, and finds
none. It runs in namespaces of its own: on this machine it reaches nobody else."""

from __future__ import annotations

import json
import secrets
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from django.conf import settings

from apps.jobs.models import Job, Step
from apps.workspaces.services import refresh
from tests.apps.jobs.builders import start, until, workspace
from tests.house import ROOT
from tests.runners.test_local import find_python_for_all
from tests.security import hostile_routes

pytestmark = [
    pytest.mark.root,
    pytest.mark.long,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(600),
]
FEWEST = 160
FLOW = """
actions:
  look:
    type: script
    script: |
      exec {python} ./hostile_routes.py {loot} {only}
tasks: {{main: {{timeout: 8m, flow: {{a: {{action: look}}}}}}}}
"""
APART = ("unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child",
         "--mount-proc")  # fmt: skip
# The first process and a neighbour hold credentials too, as a shell or a service manager would.
STAGE = """
ip link set lo up
(cat /etc/passwd; echo hostile:x:{uid}:{uid}::/:/bin/sh) > {open}/passwd
mount --bind {open}/passwd /etc/passwd
mount -t tmpfs -o mode=755 none /run
mkdir -m 700 /run/secrets && cp {closed}/netrc /run/secrets/key
{python} -c 'import time, {modules}; {serve}; time.sleep(1000)' 9<{closed}/netrc &
{python} {root}/manage.py worker --config {config}
true
"""
SERVE = (
    's=socket.socket(socket.AF_UNIX); os.umask(0o117); s.bind("/run/docker.sock"); s.listen();'
    " [(c:=s.accept()[0]).sendall(open(9).read().encode()) or c.close() for _ in iter(int, 1)]"
)


class Held:
    """What the worker, its host and its operator hold. No value is found anywhere else."""

    def __init__(self, place: Path) -> None:
        self.values: dict[str, str] = {}
        self.closed, self.open = place / "closed", place / "open"
        self.closed.mkdir(mode=0o700)
        self.open.mkdir(mode=0o755)
        self.loot = place / "loot"
        self.loot.mkdir()
        self.loot.chmod(0o777)
        self.config = self.open / "worker.yaml"
        self.cache = place / "cache"
        homely = ("netrc", ".pgpass", ".aws/credentials", ".ssh/id_rsa", ".vault-token")
        for name in homely:
            self._write(self.closed / name, self.word(name), 0o644)
        self._write(self.open / "key", self.word("key file"), 0o600)
        token = self.word("worker_token")
        text = f"worker_name: one\ntags: [script]\nworkspace_cache_dir: {self.cache}\n"
        self._write(self.config, f"{text}worker_token: {token}\n", 0o600)

    def word(self, name: str) -> str:
        self.values[name] = f"{secrets.token_urlsafe(24)}-of-{secrets.token_hex(8)}"
        return self.values[name]

    def _write(self, file: Path, text: str, mode: int) -> None:
        file.parent.mkdir(mode=0o755, exist_ok=True)
        file.write_text(text + "\n")
        file.chmod(mode)

    def environment(self, given: dict[str, str]) -> dict[str, str]:
        names = ("VAULT_TOKEN", "AWS_SECRET_ACCESS_KEY", "SOPS_AGE_KEY", "STROEM_ADMIN_PASSWORD")
        keys = {"STROEM_KEYS": ",".join(settings.STROEM_KEYS)}
        self.values |= {f"key {number}": key for number, key in enumerate(settings.STROEM_KEYS)}
        for name in ("STROEM__DB__URL", "STROEM__BROKER__URL"):
            if password := urlsplit(given[name]).password:
                self.values[name] = password
        return {
            **given,
            **keys,
            "HOME": str(self.closed),
            **{name: self.word(name) for name in names},
        }

    def last_words(self, log: Path) -> str:
        tried = sorted(self.loot.iterdir())
        last = tried[-1].read_bytes()[:300].decode("utf-8", "replace") if tried else "nothing"
        return f"{log.read_text()[-2000:]}\n{Step.objects.get().error}\n{len(tried)} tried: {last}"

    def found(self) -> list[str]:
        """`credential by route` of everything that the step got."""
        return [
            f"{name} by {data.splitlines()[0].decode()}"
            for data in (file.read_bytes() for file in sorted(self.loot.iterdir()))
            for name, value in self.values.items()
            if value.encode() in data
        ]


def attack(held: Held, folder: Path, given: dict[str, str], run_as: str, *only: str) -> Job:
    """Run the hostile step to its end with a worker of its own."""
    if run_as:
        held.config.write_text(f"{held.config.read_text()}run_as: {run_as}\n")
    python = find_python_for_all()
    text = FLOW.format(python=python, loot=held.loot, only=shlex.join(only))
    shop = workspace(folder, text, "own")
    places = {
        "files": [str(held.config), str(held.open / "key"), str(held.closed / "netrc")],
        "folders": [
            str(held.closed),
            str(held.open),
            str(held.cache),
            str(settings.STROEM.data_dir),
        ],
        "homes": [str(held.closed)],
    }
    script = Path(hostile_routes.__file__)
    (folder / "own" / script.name).write_bytes(script.read_bytes())
    (folder / "own" / "places.json").write_text(json.dumps(places))
    refresh(shop)
    job = start(shop)
    stage = STAGE.format(
        python=shlex.quote(sys.executable), root=ROOT, config=held.config, closed=held.closed,
        open=held.open, uid=1_000_000 + secrets.randbelow(1_000_000_000),
        modules="os, socket", serve=SERVE,
    )  # fmt: skip
    log = folder / "worker.log"
    with log.open("wb") as out:
        first = subprocess.Popen(
            [*APART, "sh", "-c", stage], env=held.environment(given), cwd=ROOT,
            stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        until(lambda: Job.objects.get(pk=job.pk).completed_at or first.poll() is not None, 500)
    finally:
        for one in psutil.Process(first.pid).children(recursive=True):
            if "worker" in one.cmdline():
                one.terminate()
        try:
            first.wait(40)
        finally:
            first.kill()
            first.wait()
    assert Job.objects.get(pk=job.pk).status == "completed", held.last_words(log)
    return job


def test_a_step_under_run_as_finds_no_credential(
    tmp_path: Path, place: Path, process_env: dict[str, str]
) -> None:
    held = Held(place)
    job = attack(held, tmp_path, process_env, "hostile")
    tried = Step.objects.get(job=job).output["tried"]
    assert tried >= FEWEST and len(list(held.loot.iterdir())) == tried
    assert held.found() == []


# As root, the others would do harm: this step only reads.
HARMLESS = ("/proc/*/environ", "named files", "places", "sockets b'\\n'")


def test_the_same_step_without_run_as_finds_them(
    tmp_path: Path, place: Path, process_env: dict[str, str]
) -> None:
    """So the routes lead somewhere."""
    held = Held(place)
    attack(held, tmp_path, process_env, "", *HARMLESS)
    got = {line.partition(" by ")[0] for line in held.found()}
    assert got >= set(held.values)
