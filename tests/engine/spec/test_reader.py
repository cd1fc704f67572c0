"""YAML in, a tree with places out; whatever else it is, one problem with its place."""

from __future__ import annotations

import pytest

from engine.spec.draft import Limits
from engine.spec.model import Problem
from engine.spec.reader import read


def value(text: str | bytes) -> object:
    document = read("f.yaml", text)
    assert not document.problems, document.problems
    return document.root.plain() if document.root else None


def problem(text: str | bytes, limits: Limits = Limits()) -> Problem:
    document = read("f.yaml", text, limits)
    assert document.root is None and len(document.problems) == 1, document
    return document.problems[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("22:30", "22:30"),
        ("01:00:00", "01:00:00"),
        ("0777", "0777"),
        ("0o17", "0o17"),
        ("0x1F", "0x1F"),
        ("0b1", "0b1"),
        ("1_000", "1_000"),
        ("2024-01-31", "2024-01-31"),
        ("2024-13-45", "2024-13-45"),
        ("1.2.3", "1.2.3"),
        ("0.5", 0.5),
        (".5", 0.5),
        ("1.", 1.0),
        ("1e3", 1000.0),
        ("-3", -3),
        ("+3", 3),
        ("0", 0),
        ("00.5", 0.5),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ('"null"', "null"),
        ("'5'", "5"),
        ("|\n  5", "5"),
        ("9223372036854775807", 9223372036854775807),
    ],
)
def test_scalars_follow_yaml_1_2_in_decimals(text, expected):
    found = value(f"a: {text}")
    assert found == {"a": expected}
    assert type(found["a"]) is type(expected)


def test_keys_are_text_as_the_author_wrote_them():
    assert value("on: a\n1: b\ntrue: c\n~: d\n2024-01-01: e") == {
        "on": "a", "1": "b", "true": "c", "~": "d", "2024-01-01": "e",
    }  # fmt: skip


def test_json_is_read_as_well():
    assert value('{"a": [1, 2.5, true, null, "x\\/\\u00e9\\n"], "b": {}}') == {
        "a": [1, 2.5, True, None, "x/é\n"],
        "b": {},
    }


def test_a_node_knows_where_it_and_its_keys_stand():
    root = read("dir/f.yaml", "a:\n  - x\n  - b:  5\n").root
    item = root.value["a"].value[1]
    assert str(root.keys["a"]) == "dir/f.yaml:1:1"
    assert (item.keys["b"].line, item.keys["b"].column) == (3, 5)
    assert (item.value["b"].place.line, item.value["b"].place.column) == (3, 9)


def test_an_empty_file_and_one_of_comments_hold_nothing():
    assert value("") is None
    assert value("# nothing\n\n") is None


def test_bytes_are_utf_8_with_or_without_a_mark():
    assert value("a: é".encode()) == {"a": "é"}
    assert value(b"\xef\xbb\xbfa: 1") == {"a": 1}
    assert value("\ufeffa: 1") == {"a": 1}
    found = problem(b"a: 1\nb: \xff")
    assert found.code == "encoding" and (found.place.line, found.place.column) == (2, 4)


def test_merge_keys_fill_what_is_not_said():
    text = "base: &b {x: 1, y: 2}\nother: &o {y: 3, z: 4}\nmine:\n  <<: [*b, *o]\n  x: 9\n"
    assert value(text)["mine"] == {"x": 9, "y": 2, "z": 4}


def test_a_quoted_merge_sign_is_an_ordinary_key():
    assert value('"<<": 5') == {"<<": 5}


def test_every_duplicate_key_is_named_with_both_places():
    document = read("f.yaml", "a: 1\nb:\n  c: 1\n  c: 2\na: 2\n")
    assert document.root is None
    assert [(p.place.line, p.place.column) for p in document.problems] == [(4, 3), (5, 1)]
    assert "(first at f.yaml:3:3)" in document.problems[0].message


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("a: {{ input.x }}", 1, 5, "put it in quotes"),
        ("{{ input.x }}", 1, 2, "put it in quotes"),
        ("? [a]\n: 1", 1, 3, "cannot be a key"),
        ("a: 1\n: 2", 2, 1, "key"),
        ("a: !!int 3", 1, 4, "the tag"),
        ("a: !custom x", 1, 4, "'!custom'"),
        ("a: !!set {x}", 1, 4, "the tag"),
        ("a: !!binary aGk=", 1, 4, "the tag"),
        ("a: !!python/object/apply:os.system [ls]", 1, 4, "the tag"),
        ("a: .nan", 1, 4, "a number that cannot be stored"),
        ("a: -.inf", 1, 4, "a number that cannot be stored"),
        ('a: "\\0"', 1, 4, "NUL"),
        ('a: "\\ud800"', 1, 7, "escape"),
        ("a: \x00", 1, 4, "U+0000"),
        ("a: x\nb: \x1b[31m", 2, 4, "U+001B"),
        ("a: \ud800", 1, 4, "surrogate"),
        ("a: *b", 1, 4, "is not defined above"),
        ("a: &x [*x]", 1, 8, "refers to a value that contains it"),
        ("a: &x {b: *x}", 1, 11, "refers to a value that contains it"),
        ("a: &k b\n*k : 1", 2, 1, "cannot be a key"),
        ("a: 1\n---\nb: 2", 2, 1, "second document"),
        ("<<: 5", 1, 5, "takes a mapping"),
        ("<<: [5]", 1, 6, "takes a mapping"),
        ("a:\n\t- b", 2, 1, "a tab"),
        ("a: 'x", 1, 6, "never closed"),
        ("a: @x", 1, 4, "put it in quotes"),
        ("a: b: c", 1, 5, "':' is not expected"),
        ("a: [1, 2", 2, 1, "']' was expected"),
        ("- a\nb: 2", 2, 1, "'- ' of the list"),
        ('a: "\\q"', 1, 5, "escape"),
        ("%FOO\n--- a", 1, 5, "not YAML"),
    ],
)
def test_what_is_refused_is_refused_in_words_at_its_place(text, line, column, words):
    found = problem(text)
    assert words in found.message
    assert (found.place.file, found.place.line, found.place.column) == ("f.yaml", line, column)


def test_nesting_stops_at_fifty_levels():
    assert value("[" * 50 + "]" * 50)
    assert problem("[" * 51 + "]" * 51).code == "too-deep"
    assert problem("- " * 51 + "a").code == "too-deep"


def test_aliases_count_as_deep_as_what_they_stand_for():
    deep = "[" * 26 + "]" * 26
    assert problem(f"a: &a {deep}\nb: {'[' * 25}*a{']' * 25}").code == "too-deep"


def test_a_hundred_aliases_are_enough():
    many = "a: &a x\nb: [" + ", ".join(["*a"] * 100) + "]"
    assert value(many)
    assert problem(many.replace("]", ", *a]")).code == "aliases"


def test_merge_keys_count_as_aliases():
    text = "a: &a {x: 1}\n" + "".join(f"m{i}: {{<<: *a}}\n" for i in range(51))
    assert problem(text).code == "aliases"


def test_an_alias_bomb_is_charged_for_what_it_would_become():
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{', '.join(['*' + before] * 9)}]")
    assert problem("\n".join(lines)).code == "too-big"


def test_the_text_of_aliases_is_charged_too():
    assert problem("a: &a " + "x" * 100_000 + "\nb: [" + "*a, " * 50 + "]").code == "too-big"


def test_values_and_bytes_are_limited():
    assert value("[" + "a," * 49_999 + "]")
    assert problem("[" + "a," * 100_000 + "]").code == "too-big"
    assert problem("a: " + "x" * 1_000_000).code == "too-big"
    assert problem("a: " + "é" * 600_000).code == "too-big"
    assert problem("- a\n- b", Limits(nodes=2)).code == "too-big"


def test_plain_values_are_copies():
    root = read("f.yaml", "a: &a [1]\nb: *a").root
    found = root.plain()
    found["a"].append(2)
    assert found["b"] == [1]
