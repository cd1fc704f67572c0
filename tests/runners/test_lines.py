"""Bytes become lines the same way however the reads happen to cut them, and within every bound."""

from __future__ import annotations

import itertools
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.orders import Limits, Verdict
from runners.lines import STDERR_TAIL_BYTES, LineFeed, describe_exit
from tests.runners.contract import Log

BYTES = st.lists(
    st.sampled_from(
        [
            b"a",
            b"bc",
            b"\n",
            b"\r",
            b"\r\n",
            b"\0",
            b"\xff",
            "☃".encode(),
            "é".encode()[:1],
            b"OUTPUT: 1",
            b"OUTPUT:",
        ]
    )
).map(b"".join)


def feed(
    *chunks: bytes, stream: str = "stdout", secrets: tuple[str, ...] = (), **limits: float
) -> tuple[LineFeed, Log]:
    log = Log()
    lines = LineFeed(log, Limits(**limits), secrets, clock=lambda: 0.0)
    for chunk in chunks:
        lines.feed(stream, chunk)
    lines.close()
    return lines, log


@given(
    BYTES,
    st.lists(st.integers(0, 40), max_size=6),
    st.sampled_from([4, 16, 1000]),
    st.sampled_from([10, 60, 10**6]),
)
def test_where_reads_cut_makes_no_difference(data, cuts, line_bytes, log_bytes):
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    pieces = [data[a:b] for a, b in itertools.pairwise(places)]
    whole, at_once = feed(data, line_bytes=line_bytes, log_bytes=log_bytes)
    cut, piecewise = feed(*pieces, line_bytes=line_bytes, log_bytes=log_bytes)
    assert piecewise.texts() == at_once.texts()
    assert (cut.output.value, cut.output.has_output) == (
        whole.output.value,
        whole.output.has_output,
    )


@given(st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"])))
def test_text_comes_through_as_it_is(text):
    assert feed(text.encode() + b"\n")[1].texts() == [text]


@given(BYTES)
def test_no_line_holds_what_a_database_refuses(data):
    for text in feed(data)[1].texts():
        assert "\0" not in text
        assert "\n" not in text
        text.encode()


@given(BYTES, st.integers(1, 50))
def test_the_log_stays_within_its_bytes(data, log_bytes):
    assert (
        sum(len(text.encode()) + 1 for text in feed(data, log_bytes=log_bytes)[1].texts())
        <= log_bytes
    )


def test_the_note_counts_every_byte_that_was_left_out():
    _, log = feed(*[b"0123456789\n" * 100] * 10, log_bytes=1100)
    assert log.texts() == ["0123456789"] * 100
    assert log.lines[-1].text.startswith("[truncated 9900 bytes")
    assert log.lines[-1].stream == "server"


def test_nothing_is_said_of_truncation_when_nothing_was():
    assert [
        line for line in feed(b"a\n" * 10, log_bytes=20)[1].lines if line.stream == "server"
    ] == []


def test_output_is_still_read_once_the_log_is_full_wherever_reads_cut():
    for size in (1, 3, 7, 64, 300, 5000):
        data = (
            b"x" * 50
            + b"\n"
            + b"a good deal of noise\n" * 500
            + b'OUTPUT: {"a": 1}\n'
            + b"a good deal of noise\n" * 500
        )
        lines, _ = feed(*[data[i : i + size] for i in range(0, len(data), size)], log_bytes=20)
        assert lines.output.value == {"a": 1}


def test_what_only_looks_like_output_in_the_middle_of_a_line_is_none_once_the_log_is_full():
    lines, _ = feed(
        b"x" * 50 + b"\n",
        b"some",
        b" OUTPUT: 1\n",
        b"OUT",
        b"PUT: 2",
        b"\n",
        b"y",
        b"OUTPUT: 3\n",
        log_bytes=20,
    )
    assert lines.output.value == 2


def test_a_line_is_not_cut_through_a_character():
    _, log = feed("☃☃☃☃\n".encode(), line_bytes=10)
    assert log.texts() == ["☃☃☃ ... [line cut, 3 more bytes]"]


@pytest.mark.parametrize("at", range(80, 101))
def test_a_line_is_not_cut_through_a_secret(at):
    secret = "s3cr3t-of-twenty-chr"
    _, log = feed(
        b"x" * at, secret.encode() + b"y" * 500 + b"\n", line_bytes=100, secrets=(secret,)
    )
    shown = log.texts()[0].partition(" ...")[0].replace(secret, "")
    assert "s3" not in shown


@pytest.mark.parametrize("extra", range(0, 40, 3))
def test_the_tail_of_stderr_does_not_begin_within_a_secret(extra):
    secret = "s3cr3t-of-twenty-chr"
    data = b"x" * 10_000 + secret.encode() + b"y" * (STDERR_TAIL_BYTES - 30 + extra)
    tail = feed(data, stream="stderr", secrets=(secret,))[0].stderr_tail
    assert "chr" not in tail.replace(secret, "")
    assert len(tail) <= STDERR_TAIL_BYTES + len(secret)


def test_the_tail_of_stderr_begins_with_a_whole_line():
    tail = feed(b"".join(b"line %d\n" % number for number in range(10_000)), stream="stderr")[
        0
    ].stderr_tail
    assert tail.startswith("line ")
    assert tail.endswith("\nline 9999")
    assert STDERR_TAIL_BYTES - 20 < len(tail) <= STDERR_TAIL_BYTES


def test_progress_is_told_once_a_second_and_at_its_end():
    log, now = Log(), [0.0]
    lines = LineFeed(log, Limits(), clock=lambda: now[0])
    for percent in range(101):
        now[0] = percent / 20
        lines.feed("stdout", b"%d%%\r" % percent)
    lines.feed("stdout", b"done\n")
    lines.close()
    assert log.texts()[-1] == "done"
    assert 4 <= len(log.texts()) <= 7


@pytest.mark.parametrize(
    "before",
    [b"50%\r", b"50%\r\r", b"\xef\xbb\xbf", b"\x1b[32m", b"\x1b[0m\x1b[1;31m", b"9%\r\x1b[0m"],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_an_output_that_only_looks_like_one_is_told_once(before, size):
    line = before + b'OUTPUT: {"n": 1}\n'
    pieces = [line[at : at + size] for at in range(0, len(line), size)]
    lines, log = feed(*pieces, line)
    assert not lines.output.has_output
    told = [line.text for line in log.lines if line.stream == "server"]
    assert len(told) == 1
    assert told[0].startswith("Warning: an OUTPUT: line has no effect: before it")


@pytest.mark.parametrize("wrong", [b"\xff", b"\xe9", b"\0", "\u00e9".encode()[:1]])
def test_an_output_of_bytes_that_are_no_text_is_told(wrong):
    lines, log = feed(b'OUTPUT: {"a": "' + wrong + b'"}\n')
    assert lines.output.value == {"a": "\ufffd"}
    told = [line.text for line in log.lines if line.stream == "server"]
    assert len(told) == 1 and "bytes that are no UTF-8: the next step gets U+FFFD" in told[0]


def test_an_output_that_holds_the_mark_itself_is_nobodys_mistake():
    lines, log = feed('OUTPUT: {"a": "\ufffd \u00e9"}\r\n'.encode())
    assert lines.output.value == {"a": "\ufffd \u00e9"}
    assert not [line for line in log.lines if line.stream == "server"]


def test_texts_that_show_what_is_before_an_output_are_nobodys_mistake():
    lines, log = feed(b" OUTPUT: 1\nsays OUTPUT: 2\nOUT: 3\n\x1b[1mSTATUS: 4\n\xef\xbb\xbfOK\n")
    assert not lines.output.has_output
    assert not [line for line in log.lines if line.stream == "server"]


def test_memory_stays_flat_under_a_gigantic_line_and_a_flood():
    chunk = b"x" * 65536
    flood = b"short line\n" * 6000
    log = Log()
    lines = LineFeed(log, Limits(log_bytes=100_000))
    tracemalloc.start()
    for _ in range(1000):
        lines.feed("stdout", chunk)
    lines.feed("stdout", b"\n")
    for _ in range(300):
        lines.feed("stdout", flood)
        lines.feed("stderr", flood)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    lines.close()
    assert peak < 8_000_000
    assert lines.outcome(Verdict.SUCCEEDED).verdict is Verdict.SUCCEEDED


@pytest.mark.long
@pytest.mark.parametrize("thousands", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_million_output_lines_are_read_in_time(thousands):
    log = Log()
    lines = LineFeed(log, Limits(log_bytes=100_000))
    chunk = b'OUTPUT: {"n": 1}\n' * 1000
    began = time.process_time()
    for _ in range(thousands):
        lines.feed("stdout", chunk)
    lines.close()
    assert lines.output.value == {"n": 1}
    assert time.process_time() - began < thousands * 0.03


@settings(max_examples=20)
@given(st.integers(1, 255), st.text(max_size=20))
def test_an_error_names_the_code_and_then_what_was_said(code, tail):
    error = describe_exit(code, tail)
    assert error == (f"Exit code: {code}\nStderr: {tail}" if tail else f"Exit code: {code}")
