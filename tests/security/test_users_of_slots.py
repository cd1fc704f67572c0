"""With a user for each slot, steps that run at the same time do not reach each other."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from apps.triggers import ledger as events
from engine.errors import PlatformError
from engine.orders import StepOrder, StepOutcome, Verdict
from runners.host.environment import User, act_as
from tests.workers.fakes import DIGEST, FakeLedger, FakeRunner, claim, material
from tests.workers.tarballs import tarball
from workers.attempts import Attempt
from workers.disk import WorkerDirectory
from workers.execution import Execution
from workers.outputs import Outputs
from workers.pods import Pins
from workers.reporting import LogPump
from workers.trees import Scratches, Workspaces
from workers.users import Users

pytestmark = pytest.mark.root
JOB = UUID(int=1)
FILES = {"flow.sh": "echo hi\n", "data/y": "y"}


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch, place: Path) -> Callable[[str], User]:
    """Users that nothing else on this machine runs as: what runs as them is killed."""
    numbers: dict[str, int] = {}
    base = 1_000_000 + secrets.randbelow(1_000_000_000)

    def find(name: str) -> User:
        number = base + numbers.setdefault(name, len(numbers))
        gid = base if name != "stranger" else base + 1
        return User(name, number, gid, (gid,), "/", "/bin/sh")

    monkeypatch.setattr("workers.users.find_user", find)
    monkeypatch.setattr("workers.users.LOCKS", place)
    return find


def start(user: User, command: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        ["/bin/sh", "-c", f"{command}; echo ready; sleep 300"],
        stdout=subprocess.PIPE, cwd="/", start_new_session=True, env={},
        user=user.uid, group=user.gid, extra_groups=(),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def test_what_runs_as_the_user_of_a_slot_ends_with_its_step(made_up: Callable[[str], User]) -> None:
    users = Users(("step1", "step2"))
    mine, other = users.take(is_local=True), users.take(is_local=True)
    assert mine and other and mine.uid != other.uid
    with pytest.raises(PlatformError, match="in use"):
        users.take(is_local=True)
    assert users.take(is_local=False) is None
    stubborn, neighbour = start(mine, "trap '' TERM HUP INT"), start(other, "true")
    users.end_all(mine)
    assert stubborn.wait(10) == -signal.SIGKILL and neighbour.poll() is None
    users.end_all(other)
    assert neighbour.wait(10) == -signal.SIGKILL
    users.give_back(mine)
    assert users.take(is_local=True) is mine
    users.close()


def test_the_users_of_slots_belong_to_one_worker(made_up: Callable[[str], User]) -> None:
    users = Users(("step1", "step2"))
    with pytest.raises(PlatformError, match="another worker of this host runs steps as step2"):
        Users(("step2", "step3"))
    users.close()
    Users(("step2", "step3")).close()
    with pytest.raises(PlatformError, match="same primary group"):
        Users(("step1", "stranger"))


def test_a_slot_sees_nothing_of_another_but_the_jobs_output(
    made_up: Callable[[str], User], place: Path, directory: WorkerDirectory
) -> None:
    mine, other = made_up("step1"), made_up("step2")
    workspaces = Workspaces(directory, lambda _: tarball(FILES), mode=0o700)
    scratches = Scratches(directory)
    trees = [workspaces.take(1, DIGEST, user.owner) for user in (mine, other)]
    kept = [scratches.open(b"{}", user.owner) for user in (mine, other)]
    for user, tree, scratch in zip((mine, other), trees, kept, strict=True):
        act_as(user, "sh", "-c", f"cat {scratch.input_path} {tree.path}/data/y; ls {tree.path}")
    for file in (trees[0].path / "data/y", trees[0].path / "flow.sh", kept[0].input_path):
        with pytest.raises(OSError, match="Permission denied"):
            act_as(other, "cat", str(file))
    for tree, scratch in zip(trees, kept, strict=True):
        scratches.close(scratch)
        workspaces.give_back(DIGEST, tree)
    assert workspaces.take(1, DIGEST, other.owner) is trees[1]
    assert scratches.open(b"{}", mine.owner) is kept[0]
    mine_too = made_up("actions")
    (place / "named").mkdir()
    os.chown(place / "named", mine.uid, mine.gid)
    (place / "named").chmod(0o770)
    for named in ("", str(place / "named" / "new")):
        output = Outputs(place / "output", mine_too, is_for_group=True).open(named, JOB)
        act_as(mine, "sh", "-c", f"umask 022; echo hi > {output}/file")
        assert act_as(other, "sh", "-c", f"cat {output}/file; touch {output}/mine") == "hi\n"
        assert output.stat().st_mode & 0o7777 == 0o2770


def test_steps_at_the_same_time_run_as_different_users_and_leave_nothing(
    made_up: Callable[[str], User], directory: WorkerDirectory
) -> None:
    ledger = FakeLedger()
    left: list[subprocess.Popen[bytes]] = []
    ledger.material_of = lambda _: material()

    def leave_a_process(order: StepOrder, _lines: object, _stop: object) -> StepOutcome:
        assert order.run_as
        user = made_up(order.run_as)
        left.append(start(user, f"test -O {order.scratch_dir} && test -O {order.input_path}"))
        for path in (order.scratch_dir, order.work.workspace_dir):  # type: ignore[union-attr]
            assert path is not None
            found = path.stat()
            assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (*user.owner, 0o700)
        return StepOutcome(Verdict.SUCCEEDED, 0)

    runner = FakeRunner(leave_a_process)
    execution = Execution(
        ledger,  # type: ignore[arg-type]
        Workspaces(directory, lambda _: tarball(FILES), mode=0o700),
        Scratches(directory),
        LogPump(ledger.append, ledger.released),
        lambda *_: runner,
        Pins(None, lambda *_: ""),
        events,
        stop_grace_s=1.0,
        users=Users(("step1", "step2")),
    )
    for _ in range(2):
        attempts = [Attempt(claim(number), 0.0) for number in (1, 2)]
        performed = [execution.perform(attempt) for attempt in attempts]
        assert {order.run_as for order in runner.orders[-2:]} == {"step1", "step2"}
        assert all(process.poll() is None for process in left[-2:])
        for attempt, one in zip(attempts, performed, strict=True):
            execution.tidy(attempt, one)
        assert [process.wait(10) for process in left] == [-signal.SIGKILL] * len(left)
    assert len({order.scratch_dir for order in runner.orders}) == 2
