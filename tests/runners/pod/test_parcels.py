"""Files of pods that really run: fetched before the script starts, sent once it has ended."""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import docker
import pytest

from engine.orders import Pinned, Shelves, Verdict
from runners.pod.runner import PodRunner
from tests.runners.contract import Log, Stop, build_order
from tests.runners.pod.orders import CONFIG, build_pod_order

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]


class Shop:
    """Takes and gives archives, as the server does."""

    def __init__(self, engine: docker.DockerClient) -> None:
        self.got: dict[str, bytes] = {}
        self.answers: list[tuple[int, str]] = []
        self.numbers: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                data = (
                    archive({"build/a.txt": b"given"}) if "artifacts" in self.path else archive({})
                )
                self._say(200, data)

            def do_PUT(self) -> None:
                body = b"".join(self._chunks())
                status, said = outer.answers.pop(0) if outer.answers else (200, "Stored it\n")
                if status == 200:
                    outer.numbers.append(self.headers["X-Stroem-Files"])
                    with tarfile.open(fileobj=io.BytesIO(body)) as found:
                        for entry in found:
                            content = found.extractfile(entry) if entry.isreg() else None
                            if content is not None:
                                outer.got[entry.name] = content.read()
                self._say(status, said.encode())

            def _chunks(self) -> Iterator[bytes]:
                while size := int(self.rfile.readline(), 16):
                    yield self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()

            def _say(self, status: int, data: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        subnet = engine.networks.get("bridge").attrs["IPAM"]["Config"][0]
        address = subnet.get("Gateway") or subnet["Subnet"].rsplit(".", 1)[0] + ".1"
        self.server = ThreadingHTTPServer((address, 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://{address}:{self.server.server_address[1]}"

    def shelves(self, **fields: Any) -> Shelves:
        parcel = Pinned(f"{self.url}/worker/artifacts", "pass")
        return Shelves(Path("/nowhere"), parcel=parcel, **fields)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def archive(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz" if not files else "w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    return made.getvalue()


@pytest.fixture
def shop(docker_engine: docker.DockerClient) -> Iterator[Shop]:
    found = Shop(docker_engine)
    yield found
    found.close()


@pytest.fixture
def finish(runner: PodRunner, shop: Shop, tmp_path: Path) -> Callable[..., tuple[Any, Log]]:
    def run(code: str, **shelves: Any) -> tuple[Any, Log]:
        pinned = Pinned(f"{shop.url}/workspace", "pass")
        order = build_order(
            tmp_path, code, workspace_dir=None, pinned=pinned, shelves=shop.shelves(**shelves)
        )
        log = Log()
        return runner.run(order, log, Stop()), log

    return run


def test_a_script_takes_files_and_leaves_some(finish: Any, shop: Shop) -> None:
    code = "mkdir $ARTIFACTS_DIR/d; umask 077; cp $ARTIFACTS_IN/build/a.txt $ARTIFACTS_DIR/d/b.txt"
    outcome, log = finish(code, takes=True)
    assert outcome.verdict is Verdict.SUCCEEDED, (outcome, log.lines)
    assert shop.got == {"./d/b.txt": b"given"} and shop.numbers == ["1"]
    assert any("Stored it" in text for text in log.texts())


def test_a_step_that_leaves_nothing_sends_nothing(finish: Any, shop: Shop) -> None:
    outcome, _ = finish("true")
    assert outcome.verdict is Verdict.SUCCEEDED, outcome
    assert shop.numbers == []


@pytest.mark.parametrize("on_failure", [True, False])
def test_a_failed_step_sends_files_if_that_is_wanted(
    finish: Any, shop: Shop, on_failure: bool
) -> None:
    outcome, _ = finish("echo x > $ARTIFACTS_DIR/x; exit 3", on_failure=on_failure)
    assert outcome.exit_code == 3
    assert shop.got == ({"./x": b"x\n"} if on_failure else {})


def test_a_refusal_fails_the_step_and_an_outage_is_waited_for(finish: Any, shop: Shop) -> None:
    shop.answers = [(503, "away\n"), (200, "Stored it\n")]
    outcome, _ = finish("echo x > $ARTIFACTS_DIR/x")
    assert outcome.verdict is Verdict.SUCCEEDED and shop.got == {"./x": b"x\n"}
    shop.answers = [(422, "'x' is too large\n")]
    outcome, _ = finish("echo x > $ARTIFACTS_DIR/x")
    assert outcome.verdict is Verdict.FAILED
    assert outcome.error == "The artifacts could not be stored: 'x' is too large"


def test_the_container_that_sends_is_the_platforms() -> None:
    from engine.errors import AuthorError
    from runners.pod.manifest import build_plan

    parcel = Pinned("http://s/worker/artifacts", "pass")
    wish = {"spec": {"containers": [{"name": "stroem-artifacts", "image": "evil"}]}}
    order = build_pod_order(shelves=Shelves(Path("/nowhere"), parcel=parcel), manifest=wish)
    with pytest.raises(AuthorError, match=r"spec.containers\[stroem-artifacts\] belongs to the"):
        build_plan(order, CONFIG)
