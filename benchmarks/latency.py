"""Time from POST to the script's first instruction, processor time when idle, memory."""

from __future__ import annotations

import json
import statistics
import time
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.stroem_side import Side, get, wait

TRIES = 40
IDLE_S = 10.0


def serve(side: Side, port: int) -> str:
    """Start server and scheduler; returns an access token."""
    from apps.accounts.models import User

    User.objects.create_superuser("bench@example.org", "correct horse battery")
    side.start(["server", "--port", str(port)], ["scheduler"])
    base = f"http://127.0.0.1:{port}"
    wait(lambda: _answers(base))
    signed_in = _post(
        f"{base}/api/auth/login",
        {"email": "bench@example.org", "password": "correct horse battery"},
    )
    return str(signed_in["access_token"])


def _answers(base: str) -> bool:
    try:
        return bool(get(f"{base}/healthz"))
    except OSError:
        return False


def _post(url: str, body: dict[str, Any], token: str = "") -> dict[str, Any]:
    headers = {
        "Content-Type": "application/json",
        **({"Authorization": f"Bearer {token}"} if token else {}),
    }
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return dict(json.load(answer))


def submit_to_start_ms(side: Side, port: int, token: str) -> list[float]:
    """Milliseconds from just before the POST until the script reads the clock."""
    stamp = side.folder / "stamp"
    side.load(
        "stamp",
        f"actions:\n  stamp: {{type: script, script: 'echo $EPOCHREALTIME > {stamp}.part; mv"
        f" {stamp}.part {stamp}'}}\ntasks:\n  main:\n    flow:\n      only: {{action: stamp}}\n",
    )
    found = []
    for _ in range(TRIES + 3):
        stamp.unlink(missing_ok=True)
        began = time.time()
        _post(
            f"http://127.0.0.1:{port}/api/workspaces/stamp/tasks/main/execute", {"input": {}}, token
        )
        wait(stamp.exists, every_s=0.002)
        found.append((float(stamp.read_text().replace(",", ".")) - began) * 1000)
        _quiet()
    return found[3:]


def _quiet() -> None:
    from apps.jobs.models import Job

    wait(lambda: not Job.objects.filter(completed_at=None).exists(), every_s=0.01)


def idle_cpu_percent(side: Side) -> float:
    """Processor time of all our processes while idle, in percent of one core."""
    processes = side.processes_seen()
    time.sleep(35)  # the workers poll slowly after 30 s without work
    before = sum(_cpu_s(process) for process in processes)
    time.sleep(IDLE_S)
    return (sum(_cpu_s(process) for process in processes) - before) / IDLE_S * 100


def _cpu_s(process: Any) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)


def memory_mb(side: Side) -> dict[str, float]:
    """Proportional memory of each of our processes with its children, by command."""
    found: dict[str, float] = {}
    for process in side.processes_seen():
        tree = [process, *process.children(recursive=True)]
        name = next(
            (word for word in process.cmdline() if word in ("worker", "server", "scheduler")), "?"
        )
        found[f"{name} {process.pid}"] = sum(one.memory_full_info().pss for one in tree) / 1e6
    return found


def summary(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def results_folder() -> Path:
    folder = Path(__file__).parent / "results"
    (folder / "raw").mkdir(parents=True, exist_ok=True)
    return folder
