"""Files are whole or absent, whatever is killed, stopped or cut while they are stored."""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.apps.jobs.builders import until
from tests.chaos.test_sources import Place

FILES = int(os.environ.get("STROEM_TEST_FILES", "1000"))  # of 1 MB each
BIG_MB = int(os.environ.get("STROEM_TEST_BIG_MB", "1024"))
STEPS, MB = 20, 1024 * 1024
MOST_MEMORY = 150 * MB
MAKER = """
import hashlib, os, sys
step, count, size_mb = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
folder = os.environ["ARTIFACTS_DIR"]
for number in range(count):
    with open(f"{folder}/{number}.bin", "wb") as file:
        for block in range(size_mb):
            seed = hashlib.sha256(f"{step}/{number}/{block}".encode()).digest()
            file.write(seed * 32768)
"""
FLOW = """
tasks:
  main:
    flow:
      small:
        for_each: {steps}
        type: script
        language: python
        interpreter: python3
        source: make.py
        args: ["{{{{ each.item }}}}", "{count}", "1"]
        on_worker_lost: retry
      big:
        type: script
        language: python
        interpreter: python3
        source: make.py
        args: ["100", "1", "{big}"]
        on_worker_lost: retry
"""


def digest(step: int, number: int, size_mb: int) -> str:
    found = hashlib.sha256()
    for block in range(size_mb):
        found.update(hashlib.sha256(f"{step}/{number}/{block}".encode()).digest() * 32768)
    return found.hexdigest()


@pytest.fixture
def place(tmp_path: Path, broker_url: str) -> Iterator[Place]:
    env = {
        **os.environ,
        "STROEM__BROKER__URL": broker_url,
        "STROEM__STORAGE__PATH": str(tmp_path / "storage"),
        "STROEM__ARTIFACTS__FILE_MB": "8192",
        "STROEM__ARTIFACTS__JOB_MB": "16384",
        "STROEM__RECOVERY__LOST_RETRIES": "1000",
    }
    found = Place(tmp_path, env)
    yield found
    found.close()


class Memory(threading.Thread):
    """The most memory that any worker process has held."""

    def __init__(self, place: Place) -> None:
        super().__init__(daemon=True)
        self.place, self.most, self.is_over = place, 0, threading.Event()

    def run(self) -> None:
        while not self.is_over.wait(0.1):
            for worker in list(self.place.workers.values()):
                try:
                    self.most = max(self.most, psutil.Process(worker.pid).memory_info().rss)
                except psutil.Error:
                    continue


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all_files_arrive_whole_whatever_happens(place: Place, tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / "make.py").write_text(MAKER)
    flow = FLOW.format(steps=list(range(STEPS)), count=FILES // STEPS, big=BIG_MB)
    (files / "flow.yaml").write_text(flow)
    place.run("migrate")
    place.run("import_workspace", "files", str(files))
    place.house.scheduler()
    storage = tmp_path / "storage"
    until(lambda: any(storage.glob("stroem-*")), within_s=60)
    for name in ("one", "two"):
        place.work(name)
    place.run("trigger", "files", "main")
    memory, happened = Memory(place), Counter[str]()
    memory.start()
    began, dice = time.monotonic(), random.Random(1)

    def is_over() -> bool:
        return place.ask("SELECT status FROM jobs_job") not in [[("running",)], [("pending",)]]

    for turn in itertools.count():
        try:
            until(is_over, within_s=4.0 + turn, every_s=0.2)
            break
        except AssertionError:
            pass
        what = ("worker", "storage", "database")[turn % 3]
        happened[what] += 1
        if what == "worker":
            name = dice.choice(["one", "two"])
            place.workers[name].send_signal(signal.SIGKILL)
            place.workers[name].wait(30)
            place.work(name)
        elif what == "storage":
            storage.rename(tmp_path / "away")
            time.sleep(3.0)
            (tmp_path / "away").rename(storage)
        else:
            place.stop_database()
            time.sleep(2.0)
            place.start_database()
    memory.is_over.set()
    told = place.ask("SELECT name, status, error FROM jobs_step WHERE status <> 'completed'")
    assert told == []
    rows = place.ask(
        "SELECT x.step_name, x.name, x.size_bytes, b.digest, b.key FROM artifacts_artifact x"
        " JOIN artifacts_blob b ON b.id = x.blob_id JOIN jobs_attempt a ON a.id = x.attempt_id"
        " WHERE a.status = 'completed' AND b.stored_at IS NOT NULL"
    )
    expected = {
        (f"small[{step}]", f"{number}.bin"): (1 * MB, digest(step, number, 1))
        for step in range(STEPS)
        for number in range(FILES // STEPS)
    } | {("big", "0.bin"): (BIG_MB * MB, digest(100, 0, BIG_MB))}
    assert {(step, name): (size, found) for step, name, size, found, _ in rows} == expected
    for _, _, size, found, key in rows:
        with (storage / str(key)).open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == found
            assert file.tell() == size
    print(
        f"{len(rows)} files, {BIG_MB} MB the largest, in {time.monotonic() - began:.0f} s;"
        f" {dict(happened)}; a worker held at most {memory.most // MB} MB"
    )
    assert memory.most < MOST_MEMORY
