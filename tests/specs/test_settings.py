"""One dialect: a scalar means the same in the server's file, in the worker's, and in a workspace."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.spec.reader import read
from stroem_project import config
from workers import config as worker_config

TEXT, NUMBER, NOTHING = "text", "a number", "nothing"
SCALARS = {
    "no": TEXT,
    "on": TEXT,
    "yes": TEXT,
    "0777": TEXT,
    "0o17": TEXT,
    "0x1F": TEXT,
    "1_000": TEXT,
    "12:30": TEXT,
    "2026-01-31": TEXT,
    "1e3": NUMBER,
    "1000": NUMBER,
    "1000.0": NUMBER,
    "true": "true or false",
    "~": NOTHING,
    "null": NOTHING,
    "": NOTHING,
}
ROWS = pytest.mark.parametrize(("scalar", "kind"), SCALARS.items())


class Files:
    """Writes one value where the server, and where the worker, wants a text or a number."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def server(self, text: str, **environ: str) -> config.Config:
        file = self.folder / "server-config.yaml"
        file.write_text(text)
        return config.given({"STROEM_CONFIG": str(file), **environ})

    def worker(self, text: str, **environ: str) -> worker_config.WorkerConfig:
        file = self.folder / "worker-config.yaml"
        file.write_text(text)
        return worker_config.load(file, environ, data_dir=self.folder)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@ROWS
def test_a_workspace_reads_it_as_this_kind(scalar: str, kind: str) -> None:
    root = read("w.yaml", f"a: {scalar}").root
    assert root is not None and isinstance(root.value, dict)
    assert root.value["a"].kind == kind


@ROWS
def test_a_text_is_a_text_in_both_files(files: Files, scalar: str, kind: str) -> None:
    server = f"workspaces:\n  w: {{type: git, url: u}}\n  x:\n    type: git\n    url: u\n    ref: {scalar}\n"
    worker = f"runner_image: {scalar}\n"
    if kind in {TEXT, NOTHING}:
        given = scalar if kind == TEXT else None
        assert files.server(server).workspaces["x"].ref == (given or "main")
        assert files.worker(worker).runner_image == given
        return
    with pytest.raises(config.ConfigError) as by_server:
        files.server(server)
    with pytest.raises(worker_config.WorkerConfigError) as by_worker:
        files.worker(worker)
    assert str(by_server.value).endswith(
        "server-config.yaml:6:5: workspaces.x.ref must be a text; put it in quotes"
    )
    assert str(by_worker.value).endswith(
        "worker-config.yaml:1:1: runner_image must be a text; put it in quotes"
    )


@ROWS
def test_a_number_is_a_number_in_both_files(files: Files, scalar: str, kind: str) -> None:
    server, worker = f"recovery:\n  lost_retries: {scalar}\n", f"max_concurrent: {scalar}\n"
    if kind in {NUMBER, NOTHING}:
        given = 1000 if kind == NUMBER else None
        assert files.server(server).recovery.lost_retries == (given or 2)
        assert files.worker(worker).max_concurrent == (given or 4)
        return
    with pytest.raises(config.ConfigError) as by_server:
        files.server(server)
    with pytest.raises(worker_config.WorkerConfigError) as by_worker:
        files.worker(worker)
    assert str(by_server.value).endswith(
        f":2:3: recovery.lost_retries must be a whole number, not '{scalar}'"
    )
    assert str(by_worker.value).endswith(
        f":1:1: max_concurrent must be a whole number, not '{scalar}'"
    )


@ROWS
def test_the_environment_gives_a_text_as_it_stands_and_spells_numbers_alike(
    files: Files, scalar: str, kind: str
) -> None:
    if scalar:
        named = {"STROEM__WORKSPACES__W__REF": scalar}
        assert (
            files.server("workspaces: {w: {type: git, url: u}}", **named).workspaces["w"].ref
            == scalar
        )
        assert files.worker("", STROEM__WORKER__RUNNER_IMAGE=scalar).runner_image == scalar
    server = {"STROEM__RECOVERY__LOST_RETRIES": scalar}
    worker = {"STROEM__WORKER__MAX_CONCURRENT": scalar}
    if kind == NUMBER:
        assert files.server("", **server).recovery.lost_retries == 1000
        assert files.worker("", **worker).max_concurrent == 1000
        return
    with pytest.raises(config.ConfigError, match="must be a whole number"):
        files.server("", **server)
    with pytest.raises(worker_config.WorkerConfigError, match="must be a whole number"):
        files.worker("", **worker)


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2", "a: !!int 5", "a: .nan", "a: 1\n---\nb: 2", "a: \t- b\n c"]
)
def test_what_one_file_refuses_the_other_refuses_at_the_same_place(files: Files, text: str) -> None:
    with pytest.raises(config.ConfigError) as by_server:
        files.server(text)
    with pytest.raises(worker_config.WorkerConfigError) as by_worker:
        files.worker(text)
    assert str(by_server.value).replace("server-", "worker-") == str(by_worker.value)


def test_an_unknown_key_is_refused_in_both_with_the_likely_one(files: Files) -> None:
    with pytest.raises(config.ConfigError, match="'data_dri'; did you mean 'data_dir'"):
        files.server("data_dri: x")
    with pytest.raises(worker_config.WorkerConfigError, match="'drain_sec'; did you mean"):
        files.worker("drain_sec: 1")
