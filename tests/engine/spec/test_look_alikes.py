"""A name that only looks like a known one: "no step 'a'" beside a step `a` would be a riddle."""

from __future__ import annotations

import pytest

from engine.spec import parser
from engine.spec.problems import did_you_mean

CYRILLIC_A, CYRILLIC_ES = "\N{CYRILLIC SMALL LETTER A}", "\N{CYRILLIC SMALL LETTER ES}"
FLOW = """
tasks:
  main:
    flow:
      a: {{type: script, {key}: "true"}}
      b: {{type: script, script: "true", depends_on: [{needed}]}}
"""


@pytest.mark.parametrize(
    ("word", "known", "name"),
    [
        (CYRILLIC_A, "a", "CYRILLIC SMALL LETTER A"),
        (f"s{CYRILLIC_ES}ript", "script", "CYRILLIC SMALL LETTER ES"),
        ("\N{GREEK CAPITAL LETTER ALPHA}PI", "API", "GREEK CAPITAL LETTER ALPHA"),
        ("cafe\N{COMBINING ACUTE ACCENT}", "caf\xe9", "COMBINING ACUTE ACCENT"),
        ("\N{FULLWIDTH LATIN SMALL LETTER A}bc", "abc", "FULLWIDTH LATIN SMALL LETTER A"),
    ],
)
def test_a_letter_of_another_alphabet_is_named(word: str, known: str, name: str) -> None:
    hint = did_you_mean(word, ["other", known])
    assert hint.startswith(f" (did you mean '{known}'? '") and f"is {name} here" in hint


def test_other_words_get_the_usual_hint_or_none() -> None:
    assert did_you_mean("gr\xfc\xdfe", ["gr\xfcsse"]) == " (did you mean 'gr\xfcsse'?)"
    assert did_you_mean("\N{CYRILLIC SMALL LETTER ZHE}", ["a"]) == ""
    twisted, back = "e\N{COMBINING ACUTE ACCENT}\xe9", "\xe9e\N{COMBINING ACUTE ACCENT}"
    assert "is" not in did_you_mean(twisted, [back]) and did_you_mean("\xe9", ["\xe9"])
    assert did_you_mean("scirpt", ["script"]) == " (did you mean 'script'?)"


def test_keys_and_dependencies_say_so() -> None:
    text = FLOW.format(key=f"s{CYRILLIC_ES}ript", needed=CYRILLIC_A)
    said = [one.message for one in parser.load({"flow.yaml": text}).problems]
    assert any("'script'?" in one and "CYRILLIC SMALL LETTER ES" in one for one in said)
    assert any("'a'?" in one and "CYRILLIC SMALL LETTER A here" in one for one in said)
