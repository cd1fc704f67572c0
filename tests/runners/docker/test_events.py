"""Consumers in containers: each event is safe before the next is read, and its script hears of it."""

from __future__ import annotations

from typing import Any

import pytest

from engine.orders import ImageWork, Verdict
from runners.docker import replies
from runners.docker.connection import Connection
from runners.docker.frames import FrameStream
from tests.runners.docker.conftest import Finish
from tests.runners.test_events import Sink

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]
ASKS = """
    for n in 1 2 3; do
        echo "OUTPUT: \\"reply$n\\""
        read -r answer && echo "heard $answer"
    done
"""


@pytest.mark.parametrize("kind", ["script", "image"])
def test_a_script_in_a_container_reads_the_replies_that_it_asks_for(
    finish: Finish, base_image: str, kind: str
) -> None:
    sink = Sink()
    work = {"work": ImageWork(base_image, cmd=ASKS)} if kind == "image" else {"code": ASKS}
    outcome, log = finish(**work, events=sink)
    assert outcome.verdict is Verdict.SUCCEEDED, outcome.error
    heard = [text for text in log.texts() if text.startswith("heard")]
    assert heard == [f'heard ok "reply{n}"' for n in (1, 2, 3)]
    assert len(sink.texts) == 3


def test_a_script_that_does_not_read_its_replies_fails(
    finish: Finish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies, "PATIENCE_S", 0.5)
    outcome, _ = finish(f"""while :; do echo 'OUTPUT: "reply{"x" * 8000}"'; done""", events=Sink())
    assert outcome.verdict is Verdict.FAILED
    assert outcome.error is not None and "does not read them" in outcome.error


@pytest.mark.parametrize("text", ["reply", "no reply"])
def test_a_consumer_whose_connection_broke_begins_again_instead_of_waiting_for_a_lost_reply(
    finish: Finish, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    opened: list[FrameStream] = []
    attach = Connection.attach

    def remember(self: Connection, container: str, **options: Any) -> FrameStream:
        opened.append(attach(self, container, **options))
        return opened[-1]

    class Cutting(Sink):
        def __call__(self, text: str, *, is_cut: bool) -> str | None:
            opened[-1].close()
            return super().__call__(text, is_cut=is_cut)

    monkeypatch.setattr(Connection, "attach", remember)
    outcome, _ = finish(f"echo 'OUTPUT: \"{text}\"'; sleep 60", events=Cutting())
    assert outcome.verdict is Verdict.LOST
    assert outcome.error is not None and "must begin again" in outcome.error


def test_other_steps_have_no_input(finish: Finish) -> None:
    outcome, log = finish("if read -r line; then echo got; else echo nothing; fi")
    assert log.texts() == ["nothing"] and outcome.verdict is Verdict.SUCCEEDED
