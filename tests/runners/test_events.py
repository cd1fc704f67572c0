"""Scripts whose output is events: replies, pressure, and nothing lost at their end."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from engine.orders import Limits, StepOutcome, Verdict
from runners.events import NO_REPLIES, feed_of
from runners.host.local import LocalConfig, LocalRunner
from tests.runners.contract import Log, Stop, build_order


class Sink:
    """Takes events; `gate` holds them back."""

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.texts: list[str] = []
        self.gate = gate
        self.asked = threading.Event()

    def __call__(self, text: str, *, is_cut: bool) -> str | None:
        self.asked.set()
        if self.gate is not None:
            assert self.gate.wait(30)
        self.texts.append("cut" if is_cut else text)
        return f"ok {text}" if text.startswith('"reply') else None


def run(folder: Path, code: str, sink: Sink, **limits: int) -> tuple[StepOutcome, Log]:
    log = Log()
    order = build_order(folder, code, events=sink, limits=Limits(**limits))
    runner = LocalRunner(LocalConfig(cache_dir=folder / "cache"))
    return runner.run(order, log, Stop()), log


def test_every_output_line_is_an_event_and_none_is_the_output(tmp_path: Path) -> None:
    sink = Sink()
    code = """
        echo 'OUTPUT: 1'
        echo '   OUTPUT:2'
        echo no event
        echo 'OUTPUT: not stdout' >&2
        printf 'OUTPUT: 3'
    """
    outcome, log = run(tmp_path, code, sink)
    assert sink.texts == ["1", "2", "3"]
    assert (outcome.verdict, outcome.has_output, outcome.output) == (Verdict.SUCCEEDED, False, None)
    assert "no event" in log.texts()


def test_a_script_reads_the_replies_that_it_asks_for_from_its_input(tmp_path: Path) -> None:
    code = """
        for n in 1 2 3; do
            echo "OUTPUT: \\"reply$n\\""
            read -r answer && echo "heard $answer"
        done
    """
    sink = Sink()
    _, log = run(tmp_path, code, sink)
    heard = [text for text in log.texts() if text.startswith("heard")]
    assert heard == [f'heard ok "reply{n}"' for n in (1, 2, 3)]


def test_a_script_that_does_not_read_its_replies_fails_before_they_fill_the_memory(
    tmp_path: Path,
) -> None:
    code = f"""while :; do echo 'OUTPUT: "reply{"x" * 4000}"'; done"""
    outcome, _ = run(tmp_path, code, Sink())
    assert outcome.verdict is Verdict.FAILED
    assert outcome.error is not None and "does not read them" in outcome.error


def test_while_an_event_waits_the_script_waits_too(tmp_path: Path) -> None:
    # far more than a pipe and one read hold: the script cannot get to its last line
    gate, sink = threading.Event(), Sink()
    sink.gate = gate
    done = tmp_path / "done"
    code = f"""
        for n in $(seq 2000); do echo "OUTPUT: {"x" * 200}"; done
        touch {done}
    """
    thread = threading.Thread(target=run, args=(tmp_path, code, sink))
    thread.start()
    assert sink.asked.wait(30)
    assert not done.exists()
    gate.set()
    thread.join(60)
    assert done.exists() and len(sink.texts) == 2000


def test_what_a_script_printed_before_its_end_is_taken_however_long_that_takes(
    tmp_path: Path,
) -> None:
    class Slow(Sink):
        def __call__(self, text: str, *, is_cut: bool) -> str | None:
            threading.Event().wait(0.05)
            return super().__call__(text, is_cut=is_cut)

    sink = Slow()
    run(tmp_path, 'for n in $(seq 70); do echo "OUTPUT: $n"; done', sink)
    assert sink.texts == [str(n) for n in range(1, 71)]


def test_events_go_on_when_the_log_is_full_and_the_log_says_that_it_is(tmp_path: Path) -> None:
    sink = Sink()
    code = 'for n in $(seq 50); do echo "OUTPUT: $n"; done'
    _, log = run(tmp_path, code, sink, log_bytes=100)
    assert sink.texts == [str(n) for n in range(1, 51)]
    assert any("log of this attempt is full" in text for text in log.texts("server"))


def test_an_event_longer_than_any_output_says_so(tmp_path: Path) -> None:
    sink = Sink()
    run(tmp_path, "printf 'OUTPUT: '; head -c 2000000 /dev/zero | tr '\\0' x; echo", sink)
    assert sink.texts == ["cut"]


def test_where_no_reply_can_be_given_the_step_fails_and_says_so(tmp_path: Path) -> None:
    log = Log()
    feed = feed_of(build_order(tmp_path, "", events=Sink()), log)
    feed.feed("stdout", b'OUTPUT: "reply"\nOUTPUT: 1\n')
    assert feed.outcome_of(0).verdict is Verdict.FAILED
    assert feed.outcome_of(0).error == NO_REPLIES


@pytest.mark.parametrize("text", ["plain", "OUTPUT: {}"])
def test_other_steps_have_no_input_and_their_feed_is_the_plain_one(
    tmp_path: Path, text: str
) -> None:
    order = build_order(tmp_path, f"echo '{text}'; readlink /proc/self/fd/0")
    log = Log()
    LocalRunner(LocalConfig(cache_dir=tmp_path / "cache")).run(order, log, Stop())
    assert log.texts()[-1] == "/dev/null"
