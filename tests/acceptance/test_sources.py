"""Event sources on real workers: the examples, moves, pressure, and secrets in no log."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from apps.jobs.models import Job, LogChunk
from apps.triggers import services
from apps.triggers.models import Firing, Source, Trigger
from apps.triggers.snapshots import source_states
from apps.triggers.values import SourceState
from apps.workspaces.services import import_folder
from standalone.embedded.pair import TemporaryBroker
from standalone.supervision.lifeline import Lifeline
from tests.apps.jobs.builders import fresh, until, workspace
from tests.house import ROOT, House

pytestmark = pytest.mark.django_db(transaction=True)
EXAMPLE = ROOT / "examples" / "triggers"


@pytest.fixture
def house(tmp_path: Path, process_env: dict[str, str]) -> Iterator[House]:
    found = House(tmp_path, process_env, heartbeat_timeout_secs=10)
    yield found
    found.close()


@pytest.fixture
def streams() -> Iterator[str]:
    """The socket of a server with streams."""
    lifeline = Lifeline()
    broker = TemporaryBroker(lifeline)
    broker.start()
    yield broker.url.removeprefix("redis+socket://").partition("?")[0]
    broker.stop()
    lifeline.close()


def example(folder: Path, **changes: str) -> None:
    """The example, with other words in its file."""
    place = folder / "triggers"
    shutil.copytree(EXAMPLE, place)
    text = (place / "sources.yaml").read_text()
    for old, new in changes.items():
        wanted = {"redis": "localhost:6379", "drop": "/tmp/stroem-drop"}[old]
        assert wanted in text
        text = text.replace(wanted, new)
    (place / "sources.yaml").write_text(text.replace("enabled: false", "enabled: true"))
    found = import_folder("triggers", place)
    assert not found.has_failed, found.problems


def state(name: str) -> SourceState:
    row = Trigger.objects.select_related("workspace").get(name=name)
    return source_states([row])[row.pk]


def done(task: str) -> list[Job]:
    return list(Job.objects.filter(task_name=task, status="completed").order_by("id"))


@pytest.mark.long
def test_the_examples_bring_files_and_stream_entries_and_follow_the_files_of_the_workspace(
    house: House, tmp_path: Path, streams: str
) -> None:
    drop = tmp_path / "drop"
    drop.mkdir()
    server = redis.Redis(unix_socket_path=streams)
    server.xadd("orders", {"number": "early"})
    example(tmp_path, redis=f"unix:{streams}", drop=str(drop))
    house.scheduler()
    house.worker("box")
    (drop / "b.csv").write_text("1,2\n")
    (drop / "notes.txt").write_text("no event")
    server.xadd("orders", {"number": "late"})
    until(lambda: len(done("import-file")) == 1 and len(done("handle-order")) == 2, within_s=60)

    assert done("import-file")[0].input == {"name": "b.csv", "size": 4}
    assert [job.input["number"] for job in done("handle-order")] == ["early", "late"]
    assert (drop / "taken" / "b.csv").exists() and (drop / "notes.txt").exists()
    until(lambda: server.xpending("orders", "stroem")["pending"] == 0)
    found = state("orders")
    assert (found.state, found.worker, found.events) == ("running", "box", 2)
    until(lambda: "OUTPUT" in _log(found.consumer_id))

    # new files: another consumer; paused: none
    (tmp_path / "triggers" / "readme.md").write_text("new")
    import_folder("triggers", tmp_path / "triggers")
    until(lambda: state("orders").consumer_id != found.consumer_id, within_s=30)
    old = Job.objects.get(pk=found.consumer_id)
    assert old.status == "cancelled" and "new revision" in old.cancel_reason
    server.xadd("orders", {"number": "third"})
    until(lambda: len(done("handle-order")) == 3, within_s=30)
    services.pause(Trigger.objects.get(name="orders").pk, by="ann")
    until(lambda: state("orders").state == "off", within_s=30)


def _log(job_id: object) -> str:
    return "".join(LogChunk.objects.filter(job_id=job_id).values_list("lines", flat=True))


COUNTING = """
secrets: {word: canary-4711-word}
tasks:
  count:
    flow:
      count:
        type: script
        script: |
          n=$(cat FOLDER/n 2>/dev/null || echo 0)
          while [ "$n" -lt MOST ]; do
            echo "OUTPUT: {\\"n\\": $n, \\"word\\": \\"$WORD\\", \\"_event\\": {\\"id\\": $n, \\"reply\\": true}}"
            read -r answer || exit 1
            n=$((n + 1)); echo $n > FOLDER/n.new; mv FOLDER/n.new FOLDER/n
          done
          sleep 600
  main:
    input: {n: {type: integer}, word: {type: string}}
    flow: {work: {type: script, script: "until [ -e FOLDER/go ]; do sleep 0.1; done"}}
triggers:
  numbers: {type: event_source, task: count, target_task: main, env: {WORD: "{{ secret.word }}"}, OPTIONS}
"""


def counting(folder: Path, most: int, options: str = "restart_policy: always") -> None:
    text = COUNTING.replace("FOLDER", str(folder)).replace("MOST", str(most))
    workspace(folder, text.replace("OPTIONS", options), "numbers")


def events() -> list[int]:
    rows = Job.objects.filter(source_type="event_source").order_by("id")
    return sorted(row.input["n"] for row in rows)


@pytest.mark.long
def test_a_consumer_moves_when_its_worker_dies_and_no_event_counts_twice(
    house: House, tmp_path: Path
) -> None:
    counting(tmp_path, 100, "restart_policy: never")
    (tmp_path / "go").touch()
    house.scheduler()
    workers = {name: house.worker(name, slots=2) for name in ("one", "two")}
    until(lambda: state("numbers").events >= 5, within_s=40)
    first = state("numbers").worker
    house.kill(workers[first], tree=True)
    until(lambda: len(set(events())) == 100, within_s=90)
    assert events() == list(range(100))
    found = state("numbers")
    assert found.worker not in ("", first) and found.state == "running"
    assert Source.objects.get().starts == 1


def test_a_consumer_waits_while_max_in_flight_jobs_are_open(house: House, tmp_path: Path) -> None:
    counting(tmp_path, 10, "max_in_flight: 3")
    house.scheduler()
    house.worker("box")
    until(lambda: "The next event waits: 3 job(s)" in _log(state("numbers").consumer_id), 40)
    found = state("numbers")
    assert (found.in_flight, found.events) == (3, 3) and (tmp_path / "n").read_text() == "3\n"
    (tmp_path / "go").touch()
    until(lambda: events() == list(range(10)), within_s=60)


@pytest.mark.long
def test_a_worker_that_drains_hands_its_consumer_over_at_once(house: House, tmp_path: Path) -> None:
    counting(tmp_path, 5)
    (tmp_path / "go").touch()
    house.scheduler()
    leaving = house.worker("leaving", drain_secs=300)
    until(lambda: len(events()) == 5 and state("numbers").state == "running", within_s=40)
    house.worker("staying")
    leaving.terminate()
    until(lambda: state("numbers").worker == "staying", within_s=60)
    leaving.wait(30)
    assert len(Job.objects.filter(source_type="consumer")) == 1


def test_a_secret_that_a_consumer_prints_is_in_no_row_and_no_log(
    house: House, tmp_path: Path
) -> None:
    counting(tmp_path, 3)
    (tmp_path / "go").touch()
    house.scheduler()
    house.worker("box")
    until(lambda: len(done("main")) == 3, within_s=40)
    consumer = Job.objects.get(source_type="consumer")
    until(lambda: _log(consumer.pk))
    kept = [_log(consumer.pk), *(json.dumps(fresh(job).input) for job in done("main"))]
    kept += [path.read_text() for path in tmp_path.glob("*.log")]
    kept += Firing.objects.values_list("reason", flat=True)
    assert "4711" not in "".join(kept)
