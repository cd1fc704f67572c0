"""Again and again, Slurm takes nodes from running jobs. No step counts as completed that was not,
what may run twice completes on other nodes, and every action is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from apps.fleet.models import Allocation, Worker
from apps.jobs.models import Step
from apps.workflow_actions.models import JobAction
from tests.apps.jobs.builders import start, statuses, until
from tests.slurm.cluster import Cluster
from tests.slurm.site import Site, allocations, end_of, until_ended

pytestmark = pytest.mark.django_db(transaction=True)

# The first attempt runs until it is ended, and then claims that all is well.
SCRIPT = """\
echo "$STROEM_OUTPUT_DIR" >> "FOLDER/outputs"
if mkdir "FOLDER/begun-$STROEM_STEP_NAME" 2>/dev/null; then
  trap 'exit 0' TERM
  until [ -e "FOLDER/go" ]; do sleep 0.2; done
fi
echo done >> "FOLDER/done-$STROEM_STEP_NAME"
"""
FLOW = """
actions:
  work:
    type: script
    script: |
      SCRIPT
tasks:
  main:
    flow:
      STEPS
    workflow_actions:
      - {name: ask, trigger_type: on_jobs_ready, job_name_regexes: ["(again|once)_.*"],
         action_type: schedule_nodes, scheduler: SCHED, scheduler_type: slurm,
         num_allocations: WIDTH, max_parallel_jobs: 2}
      - {name: after, trigger_type: on_jobs_complete, job_name_regexes: ["(again|once)_.*"],
         action_type: run_commands, commands: ['echo "$STROEM_OUTPUT_DIR" >> FOLDER/outputs; echo x >> FOLDER/after']}
      - {name: end, trigger_type: on_workflow_complete, action_type: run_commands,
         commands: ['echo "$STROEM_OUTPUT_DIR" >> FOLDER/outputs; echo x >> FOLDER/end']}
"""


class Rounds:
    """One job whose allocations are all taken away at once: a round for each of them."""

    def __init__(self, site: Site, folder: Path, width: int, **scheduler: object) -> None:
        folder.mkdir()
        self.site, self.folder, self.width = site, folder, width
        steps = [
            f"again_{n}: {{action: work, on_worker_lost: retry}}\n"
            f"once_{n}: {{action: work, continue_on_failure: true}}"
            for n in range(width)
        ]
        text = FLOW.replace("SCRIPT", SCRIPT.replace("\n", "\n      "))
        text = text.replace("STEPS", "\n".join(steps).replace("\n", "\n      "))
        text = text.replace("WIDTH", str(width)).replace("FOLDER", str(folder))
        self.job = start(site.workspace(text, **scheduler))

    def wait_until_running(self) -> None:
        begun = lambda: len(list(self.folder.glob("begun-*"))) == 2 * self.width  # noqa: E731
        self._until(lambda: self.statuses() == {"running"} and begun())

    def statuses(self) -> set[str]:
        return set(Step.objects.filter(job_id=self.job.id).values_list("status", flat=True))

    def numbers(self, status: str) -> list[str]:
        return [row.slurm_job_id for row in allocations(self.job) if row.status == status]

    def _until(self, condition: Callable[[], object], within_s: float = 120) -> None:
        try:
            until(condition, within_s=within_s, every_s=0.1)
        except AssertionError:
            raise AssertionError(self.site.explain(self.job)) from None

    def check(self, *, lost: bool = True, ran: bool = True, within_s: float = 150) -> None:
        job, site = self.job, self.site
        end_of(site, job, within_s=within_s)
        done = {file.name.removeprefix("done-") for file in self.folder.glob("done-*")}
        for name, status in statuses(job).items():
            assert (status == "completed") is (name in done), site.explain(job)
            if name.startswith("again") or not lost:
                assert status == "completed", site.explain(job)
            elif ran:
                assert status == "failed", site.explain(job)
        actions = JobAction.objects.filter(job_id=job.id, ended_at=None)
        self._until(lambda: not actions.exists())
        for name in ("after", "end"):
            row = JobAction.objects.get(job_id=job.id, name=name)
            assert row.status == "succeeded", site.explain(job)
            assert (self.folder / name).read_text() == "x\n", site.explain(job)
        assert len(set((self.folder / "outputs").read_text().split())) == 1
        until_ended(site, job)
        errors = Step.objects.filter(job_id=job.id, status="failed").values_list("error", flat=True)
        assert all(self.says in error for error in errors), list(errors)

    says = ""


def scancel_running(rounds: Rounds) -> None:
    rounds.wait_until_running()
    rounds.says = "Slurm"
    rounds.site.cluster.run("scancel", *rounds.numbers("active"))


def scancel_pending(rounds: Rounds) -> None:
    cluster = rounds.site.cluster
    rounds._until(lambda: len(rounds.numbers("pending")) == rounds.width)
    rounds.says = "Slurm says CANCELLED"
    (rounds.folder / "go").touch()
    cluster.run("scancel", *rounds.numbers("pending"))
    rounds._until(lambda: not set(rounds.numbers("pending")) & set(rounds.numbers("active")))
    cluster.run("scontrol", "update", "partitionname=debug", "state=up")


def node_down(rounds: Rounds) -> None:
    rounds.wait_until_running()
    rounds.says = "was lost"
    cluster = rounds.site.cluster
    nodes = {cluster.job(number)["NodeList"] for number in rounds.numbers("active")}
    for node in nodes:
        cluster.node_dies(node)
    rounds._until(lambda: not rounds.numbers("active"))
    for node in nodes:
        cluster.start_node(node)


def walltime(rounds: Rounds) -> None:
    rounds.wait_until_running()
    rounds.says = "The walltime of 00:01:00 of its allocation ended"


def kill_worker(rounds: Rounds) -> None:
    rounds.wait_until_running()
    rounds.says = "was lost: Slurm says FAILED"
    for pid in Worker.objects.filter(job_id=rounds.job.id).values_list("pid", flat=True):
        psutil.Process(pid).kill()


def restart_controller(rounds: Rounds) -> None:
    rounds.wait_until_running()
    cluster = rounds.site.cluster
    daemon = psutil.Process(int((cluster.folder / "slurmctld.pid").read_text()))
    daemon.kill()
    psutil.wait_procs([daemon], timeout=10)
    time.sleep(3)  # what is not there cannot be waited for: the follower asks in vain meanwhile
    cluster.start_controller()
    (rounds.folder / "go").touch()


KINDS: dict[str, tuple[Callable[[Rounds], None], dict[str, object]]] = {
    "scancel": (scancel_running, {}),
    "scancel-pending": (scancel_pending, {}),
    "node-down": (node_down, {"extra": "--no-requeue"}),
    "walltime": (walltime, {"walltime": "00:01:00"}),
    "kill-9": (kill_worker, {}),
    "slurmctld": (restart_controller, {}),
}


@pytest.fixture
def restored(cluster: Cluster) -> Iterator[Cluster]:
    yield cluster
    cluster.run("scontrol", "update", "partitionname=debug", "state=up")
    for node in ("n1", "n2", "n3", "n4"):
        if not cluster.is_node_up(node):
            cluster.start_node(node)
    until(lambda: cluster.states() == {"idle"}, within_s=60)


def play(site: Site, folder: Path, kind: str, width: int, count: int) -> None:
    disturb, scheduler = KINDS[kind]
    site.scheduler()
    site.submitter("login", "script")
    for number in range(count):
        if kind == "scancel-pending":
            site.cluster.run("scontrol", "update", "partitionname=debug", "state=down")
        began = time.monotonic()
        rounds = Rounds(site, folder / f"round-{number}", width, **scheduler)
        disturb(rounds)
        disturbed = time.monotonic()
        rounds.check(lost=kind != "slurmctld", ran=kind != "scancel-pending", within_s=200)
        asked = Allocation.objects.filter(job_id=rounds.job.id).count()
        print(
            f"{kind}: {width} rounds; {time.monotonic() - disturbed:.0f} s from the loss to the end,"
            f" {time.monotonic() - began:.0f} s in all; {asked} allocations"
        )


@pytest.mark.parametrize("kind", ["scancel", "kill-9"])
def test_two_rounds(site: Site, restored: Cluster, tmp_path: Path, kind: str) -> None:
    play(site, tmp_path, kind, 2, 1)


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("kind", list(KINDS))
def test_twenty_rounds(site: Site, restored: Cluster, tmp_path: Path, kind: str) -> None:
    play(site, tmp_path, kind, 4, 5)
