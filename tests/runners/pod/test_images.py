"""Files and state of images in pods that really run: what the image leaves is sent once its worker
has said that it has ended."""

from __future__ import annotations

import base64
import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from engine.errors import AuthorError
from engine.orders import ContainerWishes, ImageWork, StateFolders, Verdict
from runners.pod.runner import PodRunner
from runners.pod.states import LeftLines
from tests.runners.contract import Log, Stop, build_order
from tests.runners.pod.shop import Shop

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]
Finish = Callable[..., tuple[Any, Log]]


@pytest.fixture
def shop(docker_engine: docker.DockerClient) -> Iterator[Shop]:
    found = Shop(docker_engine)
    yield found
    found.close()


@pytest.fixture
def finish(runner: PodRunner, shop: Shop, base_image: str, tmp_path: Path) -> Finish:
    """Run the image with this command; keywords are fields of the shelves, then of the order."""

    def run(cmd: str, shelves: Any = None, **fields: Any) -> tuple[Any, Log]:
        work = ImageWork(base_image, cmd)
        found = shop.shelves_of_image(**(shelves or {}))
        order = build_order(tmp_path, work=work, shelves=found, **fields)
        log = Log()
        return runner.run(order, log, Stop()), log

    return run


@pytest.fixture
def folders(tmp_path: Path) -> StateFolders:
    paths = [tmp_path / f"state-{number}" for number in range(4)]
    for path in paths:
        path.mkdir()
    return StateFolders((paths[0], paths[1]), (paths[2], paths[3]))


def test_an_image_takes_files_and_leaves_some(finish: Finish, shop: Shop) -> None:
    cmd = "mkdir $ARTIFACTS_DIR/d; cp $ARTIFACTS_IN/build/a.txt $ARTIFACTS_DIR/d/b.txt; id -u"
    outcome, log = finish(cmd, {"takes": True})
    assert outcome.verdict is Verdict.SUCCEEDED, (outcome, log.lines)
    assert log.texts()[0] == "0"  # it runs as its own user, who is root here
    assert shop.got == {"./d/b.txt": b"given"} and shop.numbers == ["1"]
    assert shop.ends == [0]
    assert any("Stored it" in text for text in log.texts())


def test_an_image_that_leaves_nothing_sends_nothing(finish: Finish, shop: Shop) -> None:
    outcome, _ = finish("true")
    assert outcome.verdict is Verdict.SUCCEEDED, outcome
    assert shop.numbers == []


@pytest.mark.parametrize("on_failure", [True, False])
def test_a_failed_image_sends_files_if_that_is_wanted(
    finish: Finish, shop: Shop, on_failure: bool
) -> None:
    outcome, _ = finish("echo x > $ARTIFACTS_DIR/x; exit 3", {"on_failure": on_failure})
    assert (outcome.verdict, outcome.exit_code) == (Verdict.FAILED, 3)
    assert shop.got == ({"./x": b"x\n"} if on_failure else {})


def test_a_refusal_a_closed_file_and_a_forgotten_step_fail_it_with_a_sentence(
    finish: Finish, shop: Shop
) -> None:
    shop.answers = [(503, "away\n"), (422, "'x' is too large\n")]
    outcome, _ = finish("echo x > $ARTIFACTS_DIR/x")
    assert outcome.verdict is Verdict.FAILED
    assert outcome.error == "The artifacts could not be stored: 'x' is too large"
    outcome, _ = finish("umask 077; mkdir $ARTIFACTS_DIR/d; echo x > $ARTIFACTS_DIR/d/y")
    assert outcome.verdict is Verdict.FAILED
    assert "cannot be read by the container that sends it (user 10001)" in outcome.error
    assert shop.got == {}
    shop.end_status = 410
    outcome, _ = finish("sleep 1; echo x > $ARTIFACTS_DIR/x")
    assert outcome.verdict is Verdict.FAILED
    assert "the server no longer knows this step (410)" in outcome.error


def test_files_of_a_user_of_its_own_are_read_by_the_same_user(finish: Finish, shop: Shop) -> None:
    cmd = "umask 077; echo x > $ARTIFACTS_DIR/x"
    outcome, log = finish(cmd, container=ContainerWishes(user="1234"))
    assert outcome.verdict is Verdict.SUCCEEDED, (outcome, log.lines)
    assert shop.got == {"./x": b"x\n"}


def test_an_image_reads_the_state_and_leaves_some(
    finish: Finish, shop: Shop, folders: StateFolders
) -> None:
    (folders.task[0] / "state.json").write_text('{"n": 1}')
    (folders.task[0] / "deep").mkdir()
    (folders.task[0] / "deep" / "cursor").write_text("7")
    cmd = (
        "cat $STATE_DIR/state.json $STATE_DIR/deep/cursor; echo;"
        " head -c 300000 /dev/urandom > $STATE_OUT_DIR/wide;"
        " cp $STATE_OUT_DIR/wide $ARTIFACTS_DIR/wide;"
        " mkdir $GLOBAL_STATE_OUT_DIR/sub; echo 8 > $GLOBAL_STATE_OUT_DIR/sub/cursor"
    )
    outcome, log = finish(cmd, env=folders.environment, state=folders)
    assert outcome.verdict is Verdict.SUCCEEDED, (outcome, log.lines)
    assert log.texts()[0] == '{"n": 1}7'
    assert not any("state of" in text for text in log.texts())
    assert (folders.task[1] / "wide").read_bytes() == shop.got["./wide"]
    assert (folders.workspace[1] / "sub" / "cursor").read_text() == "8\n"


def test_state_of_an_image_that_fails_or_is_too_large_is_not_kept(
    finish: Finish, folders: StateFolders
) -> None:
    wanted: dict[str, Any] = {"env": folders.environment, "state": folders}
    outcome, _ = finish("echo x > $STATE_OUT_DIR/x; exit 3", **wanted)
    assert outcome.exit_code == 3 and not any(folders.task[1].iterdir())
    outcome, _ = finish("head -c 5000000 /dev/urandom > $STATE_OUT_DIR/x", **wanted)
    assert outcome.verdict is Verdict.FAILED and not any(folders.task[1].iterdir())
    assert outcome.error.startswith("The state could not be kept: /state-out holds 5")


def test_state_of_which_lines_are_missing_is_not_kept(
    folders: StateFolders, tmp_path: Path
) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(__file__, "x")
    text = base64.b64encode(archive.getvalue())
    lines = [b"state-out " + text[at : at + 400] for at in range(0, len(text), 400)]
    for expected in (None, len(lines) + 1):
        left = LeftLines(folders, tmp_path, are_counted=True)
        for line in lines:
            left.take(line)
        left.expected = expected
        with pytest.raises(AuthorError, match="could not be read from its log"):
            left.unpack()
        assert not any(folders.task[1].iterdir())
    left.expected = len(lines)
    left.unpack()
    assert [path.name for path in folders.task[1].iterdir()] == ["x"]
    left.close()
