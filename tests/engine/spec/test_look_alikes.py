"""A name that only looks like a known one: "no step 'a'" beside a step `a` would be a riddle."""

from __future__ import annotations

import pytest

from engine.errors import TemplateError
from engine.spec import parser
from engine.spec.problems import did_you_mean
from engine.templating import render

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


ONE, TWO = "caf\xe9", "cafe\N{COMBINING ACUTE ACCENT}"
SCOPES = {
    "steps": """
tasks: {{main: {{flow: {{{0}: {{type: script, script: "true"}}, {1}: {{type: script, script: "true"}}}}}}}}
""",
    "inputs of a task": """
tasks:
  main:
    input: {{{0}: {{type: string, default: a}}, {1}: {{type: string, default: b}}}}
    flow: {{a: {{type: script, script: "true"}}}}
""",
    "inputs of an action": """
actions: {{go: {{type: script, script: "true", input: {{{0}: {{type: string}}, {1}: {{type: string}}}}}}}}
tasks: {{main: {{flow: {{a: {{action: go}}}}}}}}
""",
    "actions": """
actions: {{{0}: {{type: script, script: "true"}}, {1}: {{type: script, script: "true"}}}}
tasks: {{main: {{flow: {{a: {{action: {0}}}, b: {{action: {1}}}}}}}}}
""",
    "tasks": """
tasks:
  {0}: {{flow: {{a: {{type: script, script: "true"}}}}}}
  {1}: {{flow: {{a: {{type: script, script: "true"}}}}}}
""",
    "triggers": """
tasks: {{main: {{flow: {{a: {{type: script, script: "true"}}}}}}}}
triggers:
  {0}: {{type: scheduler, cron: "0 0 * * *", task: main}}
  {1}: {{type: scheduler, cron: "0 0 * * *", task: main}}
""",
    "connections": """
connections: {{{0}: {{host: a}}, {1}: {{host: b}}}}
tasks: {{main: {{flow: {{a: {{type: script, script: "true"}}}}}}}}
""",
}


@pytest.mark.parametrize("text", SCOPES.values(), ids=SCOPES.keys())
def test_names_of_one_scope_that_differ_only_in_their_composition_are_refused(text: str) -> None:
    for first, second in ((ONE, TWO), (TWO, ONE)):
        problems = parser.load({"flow.yaml": text.format(first, second)}).problems
        said = [one for one in problems if "differ only in how Unicode composes" in one.message]
        assert [one.code for one in said] == ["name-collision"], problems
        assert said[0].severity == "error" and said[0].place.line > 1
    assert not any(
        "composes" in one.message
        for one in parser.load({"flow.yaml": text.format(ONE, "cafe")}).problems
    )


def test_they_are_refused_in_two_files() -> None:
    task = 'tasks: {{{}: {{flow: {{a: {{type: script, script: "true"}}}}}}}}'
    files = {"a.yaml": task.format(ONE), "b.yaml": task.format(TWO)}
    said = [one.message for one in parser.load(files).problems]
    assert any("Task names" in one and "differ only" in one for one in said), said


@pytest.mark.parametrize(("written", "known"), [(ONE, TWO), (TWO, ONE)])
def test_a_reference_that_is_composed_differently_says_so(written: str, known: str) -> None:
    text = f"""
tasks:
  main:
    flow:
      {known}: {{type: script, script: "true"}}
      b: {{type: script, script: "true", depends_on: [{written}]}}
"""
    (said,) = [
        one.message for one in parser.load({"flow.yaml": text}).problems if one.severity == "error"
    ]
    assert f"(did you mean '{known}'? '" in said and "here)" in said


@pytest.mark.parametrize(("written", "known"), [(ONE, TWO), (TWO, ONE)])
def test_a_template_says_so_too(written: str, known: str) -> None:
    with pytest.raises(TemplateError) as told:
        render(f"{{{{ input['{written}'] }}}}", {"input": {known: "x"}})
    assert f"did you mean 'input.{known}'? '" in str(told.value)
    assert str(told.value).endswith("here")


def test_letters_composed_in_both_ways_have_a_sentence_of_their_own() -> None:
    twisted, back = "e\N{COMBINING ACUTE ACCENT}\xe9", "\xe9e\N{COMBINING ACUTE ACCENT}"
    sentence = "Unicode composes its letters differently there"
    assert did_you_mean(twisted, [back]) == f" (did you mean '{back}'? {sentence})"
