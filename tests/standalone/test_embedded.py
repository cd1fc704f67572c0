"""PostgreSQL and Valkey of our own: private, recognised after a kill, refused with one sentence."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from standalone.embedded import identity, postgres, prepared, standing, wheels
from standalone.embedded.folders import private_folder, socket_folder
from standalone.embedded.pair import Addresses, TemporaryPair
from standalone.embedded.wheels import EmbeddedError
from standalone.supervision.lifeline import Lifeline
from tests.standalone.processes import eventually, is_alive, mentions

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def lifeline() -> Iterator[Lifeline]:
    line = Lifeline()
    yield line
    line.close()


@pytest.fixture
def plain(lifeline: Lifeline) -> Path:
    """A prepared cluster without tables."""
    return prepared.cluster_for(prepared.key_of(), lifeline)


def test_a_pair_answers_and_leaves_nothing_behind(lifeline: Lifeline, plain: Path) -> None:
    pair = TemporaryPair(lifeline, copy_of=plain)
    with pair as addresses:
        with psycopg.connect(addresses.db_url) as connection:
            assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
        assert pair.broker.doorbell.ask("PING") == b"+PONG\r\n"
        mode = pair.database.cluster.sockets.stat().st_mode
        assert stat.S_IMODE(mode) == 0o700
        assert stat.S_IMODE(pair.database.cluster.password_file.stat().st_mode) == 0o600
        assert mentions(str(pair.database.folder))
    assert not pair.database.folder.exists() and not pair.broker.folder.exists()
    assert not mentions(str(pair.database.folder)) and not mentions(str(pair.broker.folder))


def test_the_password_is_needed_and_on_no_command_line(lifeline: Lifeline, plain: Path) -> None:
    with TemporaryPair(lifeline, copy_of=plain) as addresses:
        password = psycopg.conninfo.conninfo_to_dict(addresses.db_url)["password"]
        assert not mentions(str(password))
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(addresses.db_url.replace(str(password), "wrong"))


@pytest.mark.long
def test_several_pairs_at_once_do_not_meet(lifeline: Lifeline, plain: Path) -> None:
    seen: list[Addresses] = []

    def run() -> None:
        with TemporaryPair(lifeline, copy_of=plain) as addresses:
            with psycopg.connect(addresses.db_url, autocommit=True) as connection:
                connection.execute("CREATE TABLE mine (id int)")
            seen.append(addresses)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({addresses.db_url for addresses in seen}) == 3


def start_standing(folder: Path, lifeline: Lifeline) -> tuple[standing.Standing, list[int]]:
    place = standing.standing_in(folder)
    pids = []
    for program in (place.database(), place.broker()):
        child = lifeline.spawn(program)
        child.wait_until_ready()
        pids.append(child.pid)
    return place, pids


def test_servers_that_a_killed_predecessor_left_are_stopped_and_the_data_carry_on(
    tmp_path: Path,
) -> None:
    former, present = Lifeline(), Lifeline()
    place, old = start_standing(tmp_path, former)
    postgres.create_database(place.cluster)
    with psycopg.connect(place.cluster.url(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    for pid in old:
        former.forget(pid)  # as if the guard had been killed together with its owner
    former.close()
    assert all(is_alive(pid) for pid in old)

    place, new = start_standing(tmp_path, present)

    eventually(lambda: not any(is_alive(pid) for pid in old))
    with psycopg.connect(place.cluster.url()) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
    present.close()
    eventually(lambda: not any(is_alive(pid) for pid in new))


@pytest.mark.long
def test_a_stale_pid_file_with_the_number_of_somebody_else_harms_nobody(
    tmp_path: Path, lifeline: Lifeline
) -> None:
    place = standing.standing_in(tmp_path)
    postgres.prepare(place.cluster)
    bystander = subprocess.Popen(["sleep", "100"])
    try:
        (place.cluster.data / "postmaster.pid").write_text(
            f"{bystander.pid}\n{place.cluster.data}\n1\n5432\n\n\n"
        )
        _, pids = start_standing(tmp_path, lifeline)
        assert bystander.poll() is None and all(is_alive(pid) for pid in pids)
    finally:
        bystander.kill()
        bystander.wait()


def test_another_major_is_refused_with_a_sentence(tmp_path: Path) -> None:
    place = standing.standing_in(tmp_path)
    postgres.prepare(place.cluster)
    (place.cluster.data / "PG_VERSION").write_text("12\n")
    with pytest.raises(
        EmbeddedError,
        match=r"was written by PostgreSQL 12, but this installation has PostgreSQL \d+",
    ):
        place.database()


@pytest.mark.long
def test_a_start_that_was_killed_half_way_leaves_nothing_that_looks_like_a_cluster(
    tmp_path: Path,
) -> None:
    place = standing.standing_in(tmp_path)
    draft = place.cluster.data.with_name("data.draft")
    draft.mkdir()
    (draft / "PG_VERSION").write_text("1")
    postgres.prepare(place.cluster)
    assert not draft.exists() and (place.cluster.data / "postgresql.conf").exists()


def test_a_missing_wheel_names_the_setting_that_does_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EmbeddedError, match="STROEM__DB__URL"):
        wheels.postgres_bin()
    with pytest.raises(EmbeddedError, match="STROEM__BROKER__URL"):
        wheels.valkey_server()


def test_a_long_path_gets_its_sockets_elsewhere(tmp_path: Path, lifeline: Lifeline) -> None:
    deep = tmp_path / ("long" * 30)
    deep.mkdir()
    sockets = socket_folder(deep)
    assert len(str(sockets)) < 90 and stat.S_IMODE(sockets.stat().st_mode) == 0o700
    assert socket_folder(deep) == sockets
    start_standing(deep, lifeline)
    shutil.rmtree(sockets, ignore_errors=True)


def test_a_private_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(EmbeddedError, match="belongs to another user"):
        private_folder(tmp_path / "link")


def test_a_second_up_is_refused_while_the_first_one_lives(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys, time; from pathlib import Path\n"
         "from standalone.embedded.standing import take_lock\n"
         "take_lock(Path(sys.argv[1]), print); print('held', flush=True); time.sleep(100)", str(tmp_path)],
        stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(standing.AlreadyRunning, match=f"process {holder.pid}"):
        standing.take_lock(tmp_path, print)
    holder.kill()
    holder.wait()
    standing.take_lock(tmp_path, print).release()


@pytest.mark.root
def test_root_runs_it_without_opening_a_mode_or_making_an_account(
    tmp_path: Path, lifeline: Lifeline
) -> None:
    before = {path: path.stat().st_mode for path in (tmp_path, *tmp_path.parents)}
    accounts = Path("/etc/passwd").read_bytes()
    place, _ = start_standing(tmp_path, lifeline)
    assert {path: path.stat().st_mode for path in before} == before
    assert Path("/etc/passwd").read_bytes() == accounts
    assert stat.S_IMODE(place.cluster.data.stat().st_mode) == 0o700


@pytest.mark.root
def test_where_namespaces_are_refused_an_existing_account_runs_it(
    lifeline: Lifeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity.shutil, "which", lambda name: None)
    identity._identity_of_root.cache_clear()
    as_nobody = ["runuser", "-u", "nobody", "--", str(wheels.postgres_bin() / "postgres"), "-V"]
    can_read_wheel = subprocess.run(as_nobody, capture_output=True).returncode == 0
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    try:
        folder.chmod(0o755)
        if not can_read_wheel:
            with pytest.raises(EmbeddedError, match="no other account can reach"):
                start_standing(folder, lifeline)
            return
        place, pids = start_standing(folder, lifeline)
        assert place.cluster.data.stat().st_uid != os.geteuid()
        assert all(is_alive(pid) for pid in pids)
    finally:
        identity._identity_of_root.cache_clear()
        lifeline.close()
        shutil.rmtree(folder)


@pytest.mark.root
def test_where_nobody_can_run_it_one_sentence_names_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "_candidates", lambda: iter(()))
    identity._identity_of_root.cache_clear()
    with pytest.raises(EmbeddedError, match="STROEM__DB__URL and STROEM__BROKER__URL"):
        identity.identity_for(tmp_path)
    identity._identity_of_root.cache_clear()
