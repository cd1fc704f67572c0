"""What a log may show of a secret."""

from __future__ import annotations

import base64
import json
import shlex
from itertools import pairwise
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.masking import MASK, LineMasker, Masker, masker, secret_strings
from engine.orders import Line

SECRET = "s3cr3t/pa ss'w\"ord$+ü"
PEM = (
    "-----BEGIN KEY-----\n"
    + "\n".join("Qx7" + str(n) * 40 + "zK" for n in range(1, 9))
    + "\n-----END KEY-----\n"
)


SECRETS = {"odd": SECRET, "plain": "hunter2-hunter2", "slashes": "ab\\cd'ef", "pem": PEM}


def shown(lines: list[str], *secrets: str, stream: str = "stdout") -> list[str]:
    stage = LineMasker(masker(tuple(secrets)))
    out = [line for text in lines for line in stage.feed(Line(0.0, stream, text))]  # type: ignore[arg-type]
    return [line.text for line in (*out, *stage.release())]


ENCODERS = {
    "raw": lambda s: s,
    "base64": lambda s: base64.b64encode(s.encode()).decode(),
    "base64 behind one byte": lambda s: base64.b64encode(b"a" + s.encode() + b"tail").decode(),
    "base64 behind two bytes": lambda s: base64.b64encode(b"ab" + s.encode() + b"tail!").decode(),
    "base64 for urls": lambda s: base64.urlsafe_b64encode(b"user:" + s.encode()).decode(),
    "hex": lambda s: s.encode().hex(),
    "upper hex": lambda s: s.encode().hex().upper(),
    "url": lambda s: quote(s),
    "url, everything": lambda s: quote(s, safe=""),
    "form": lambda s: quote_plus(s),
    "json": lambda s: json.dumps(s)[1:-1],
    "json, unicode": lambda s: json.dumps(s, ensure_ascii=False)[1:-1],
    "json in json": lambda s: json.dumps(json.dumps(s)[1:-1])[1:-1],
    "shell": lambda s: shlex.quote(s).strip("'"),
    "shell, single quotes": lambda s: s.replace("'", "'\\''"),
    "repr": lambda s: repr(s)[1:-1],
}


@pytest.mark.parametrize("encode", ENCODERS.values(), ids=ENCODERS.keys())
@pytest.mark.parametrize(
    "secret", [SECRET, "hunter2-hunter2", "ab\\cd'ef", PEM], ids=["odd", "plain", "slashes", "pem"]
)
def test_a_secret_is_hidden_in_every_common_encoding(encode, secret):
    encoded = encode(secret)
    text = f"before {encoded} after"
    hidden = Masker((secret,)).text(text)
    assert hidden.startswith("before ") and hidden.endswith(" after")
    # At the border of a base64 group up to three characters belong to the neighbours too.
    assert len(hidden.replace(MASK, "")) <= len("before  after") + 14
    middle = encoded[4:-12] if len(encoded) > 24 else encoded
    assert middle not in hidden


@pytest.mark.parametrize("encode", ENCODERS.values(), ids=ENCODERS.keys())
def test_a_secret_is_hidden_wherever_its_line_is_cut(encode):
    encoded = encode(SECRET)
    for cut in range(1, len(encoded)):
        first, second = shown(["x=" + encoded[:cut], encoded[cut:] + " y"], SECRET)
        kept = first.replace(MASK, "") + second.replace(MASK, "")
        assert encoded not in first + second
        assert len(kept) <= len("x= y") + 14, (cut, first, second)


def test_a_secret_of_several_lines_is_hidden_line_by_line_and_each_line_alone():
    assert set(shown(PEM.splitlines(), PEM)) == {MASK}
    line = PEM.splitlines()[3]
    assert shown([f"found {line} here"], PEM) == [f"found {MASK} here"]


def test_a_long_secret_that_a_tool_wraps_at_76_columns_is_hidden():
    wrapped = base64.encodebytes(PEM.encode()).decode().splitlines()
    left = "".join(shown(wrapped, PEM)).replace(MASK, "")
    assert len(left) <= 4


def test_overlapping_secrets_leave_nothing_of_either():
    assert Masker(("abcdefgh", "efghijkl")).text("..abcdefghijkl..") == f"..{MASK}.."


def test_lines_of_other_streams_keep_their_place_and_do_not_hide_a_cut():
    stage = LineMasker(masker(("hunter2-hunter2",)))
    fed = [
        Line(1, "stdout", "a hunter2-"),
        Line(2, "stderr", "noise"),
        Line(3, "stdout", "hunter2 b"),
    ]
    out = [line for one in fed for line in stage.feed(one)]
    assert [(line.at, line.stream, line.text) for line in (*out, *stage.release())] == [
        (1, "stdout", f"a {MASK}"),
        (2, "stderr", "noise"),
        (3, "stdout", f"{MASK} b"),
    ]


def test_a_line_waits_only_while_its_end_may_begin_a_secret():
    stage = LineMasker(masker(("hunter2-hunter2",)))
    assert [line.text for line in stage.feed(Line(1, "stdout", "harmless"))] == ["harmless"]
    assert stage.feed(Line(2, "stdout", "now hunt")) == []
    assert stage.oldest == 2
    assert [line.text for line in stage.feed(Line(3, "stdout", "ing season"))] == [
        "now hunt",
        "ing season",
    ]
    assert stage.oldest is None


def test_an_unfinished_secret_at_the_end_is_hidden_when_much_of_it_is_there():
    assert shown(["x hunter2-hun"], "hunter2-hunter2") == [f"x {MASK}"]
    assert shown(["x hunt"], "hunter2-hunter2") == ["x hunt"]


def test_short_values_and_plain_words_of_json_are_not_looked_for():
    assert secret_strings(
        {"a": "abc", "b": True, "c": ["true", "null", 12, 123456], "d": {"e": "long one"}}
    ) == ("123456", "long one")


def test_values_are_hidden_within_json_in_keys_texts_and_numbers():
    hide = Masker(("hunter2-hunter2", "123456"))
    assert hide.value(
        {"hunter2-hunter2": [1, "x hunter2-hunter2", 123456, True, None, {"n": 5.5}]}
    ) == {MASK: [1, f"x {MASK}", MASK, True, None, {"n": 5.5}]}


def test_without_secrets_everything_stays_as_it_is():
    line = Line(0.0, "stdout", "free")
    assert LineMasker(masker(())).feed(line) == (line,)
    assert Masker(()).text("free") == "free"


def test_text_that_is_no_unicode_does_no_harm():
    assert Masker(("hunter2-hunter2",)).text("\ud800 hunter2-hunter2") == f"\ud800 {MASK}"


@settings(max_examples=200, deadline=None)
@given(
    secret=st.text(
        st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=8, max_size=400
    ),
    cuts=st.lists(st.integers(0, 420), max_size=6),
    around=st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=20),
)
def test_no_split_of_a_line_shows_the_secret(secret, cuts, around):
    if not secret_strings(secret):
        return
    whole = around + secret + around
    borders = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    parts = [whole[a:b] for a, b in pairwise(borders)]
    out = "".join(shown(parts, *secret_strings(secret)))
    assert secret not in out or secret in MASK * 10


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["stdout", "stderr"]), st.text("abcdef", max_size=12)),
        max_size=30,
    )
)
def test_lines_are_neither_lost_nor_moved(lines):
    stage = LineMasker(masker(("abcdefab", "fedcbafe")))
    fed = [Line(float(at), stream, text) for at, (stream, text) in enumerate(lines)]  # type: ignore[arg-type]
    out = [line for one in fed for line in stage.feed(one)] + list(stage.release())
    assert [(line.at, line.stream) for line in out] == [(line.at, line.stream) for line in fed]


WRAPS = {
    "colours": "\x1b[1m{}\x1b[0m",
    "colours of several numbers": "\x1b[38;5;196m{}\x1b[m",
    "colours in one letter": "\x9b1m{}\x9bm",
    "cursor": "\x1b[K{}\x1b[2G",
    "character set": "\x1b(B{}\x1b(0",
    "title": "\x1b]0;title\x07{}\x1b]8;;http://x\x1b\\",
    "bell": "\x07{}",
    "return": "\r{}",
    "NUL": "\x00{}",
    "no width": "\u200b{}\u2060",
    "joiner": "{}\u200d",
    "soft hyphen": "{}\xad",
    "byte order mark": "\ufeff{}",
    "direction": "\u202d{}\u202c",
    "line separator": "{}\u2028",
}


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS.keys())
@pytest.mark.parametrize("secret", ["hunter2", "hunter2-hunter2", "ab\\cd'ef", SECRET])
def test_what_is_not_seen_does_not_hide_a_secret(wrap: str, secret: str) -> None:
    """Pages and terminals show it in one piece: around a part, and around each letter."""
    for whole in (
        secret[:3] + wrap.format(secret[3:5]) + secret[5:],
        "".join(map(wrap.format, secret)),
    ):
        text = f"before {whole} after"
        (line,) = shown([text], secret)
        assert Masker((secret,)).text(text) == line
        assert line.startswith("before ") and line.endswith(" after") and MASK in line
        assert not set(secret) & set(line.replace(MASK, "")[7:-6]) - set(wrap)


@pytest.mark.parametrize("first", ["h\x08", "_\x08", ""], ids=["bold", "underlined", "erased"])
def test_a_secret_with_backspaces_is_hidden(first: str) -> None:
    """Letters are struck over as manual pages do it; the first mark stands before the secret."""
    bold = {"h\x08": "h\x08hu\x08un\x08nt\x08te\x08er\x08r2\x082", "": "hun\x08ter2"}
    text = bold.get(first, "".join(map("_\x08{}".format, "hunter2")))
    assert shown([f"x {text} y"], "hunter2") == [f"x {first}{MASK} y"]


@pytest.mark.parametrize("cut", range(4, 14))
def test_a_coloured_secret_is_hidden_where_its_line_is_cut(cut: int) -> None:
    secret = "hunter2-hunter2"
    first, second = shown(
        [f"x \x1b[31m{secret[:cut]}\x1b[0m", f"\x1b[1m{secret[cut:]}\x1b[0m y"], secret
    )
    assert (first, second) == (f"x \x1b[31m{MASK}", f"{MASK}\x1b[0m y")


@pytest.mark.parametrize("before", ["\x1b", "\x1b[", "\x1b[1", "\x1b]0;", "\x1bP", "\x9b", "_\x08"])
def test_what_one_reader_takes_for_an_escape_sequence_another_one_sees(before: str) -> None:
    assert shown([f"{before}hunter2 y"], "hunter2") == [f"{before}{MASK} y"]


@pytest.mark.parametrize("inside", ["\u2028", "\x0b", "\x1b[1m", "\u200b", "\x85"])
def test_a_secret_with_unseen_letters_of_its_own_is_hidden(inside: str) -> None:
    secret = f"ab{inside}cd{inside}ef"
    assert shown([f"x {secret} y", "x abcdef y"], secret) == [f"x {MASK} y"] * 2


def test_a_tab_is_seen() -> None:
    assert shown(["x hun\tter2 y"], "hunter2") == ["x hun\tter2 y"]


def test_lines_that_hold_nothing_unseen_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    hide = Masker(("hunter2",))
    plain = Masker._scan
    monkeypatch.setattr(
        Masker, "_scan", lambda self, text: looked.append(text) or plain(self, text)
    )
    hide.text("x hunter2 y")
    hide.text("x\thunter2 y")
    assert looked == ["x hunter2 y", "x\thunter2 y"]
