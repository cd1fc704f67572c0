"""Our JSON5 and KDL readers against other people's: the same values out of the same text.

Ours are there because theirs keep no line numbers; the tests keep theirs as witnesses.
"""

from __future__ import annotations

import json
import math

import json5 as witness
import kdl as kdl_witness
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.spec.reader import Refusal
from engine.spec.torc import json5, kdl
from tests.engine.spec.torc.builders import SAME

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
# The witness reads back halves of what it writes for letters beyond the first plane.
TEXTS = st.text(
    st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"], exclude_characters="\0"),
    max_size=12,
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)

TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4)
)


def ours(text: str) -> object:
    document = json5.read("a.json5", text)
    assert document.root is not None, [str(problem) for problem in document.problems]
    return document.root.plain()


@pytest.mark.long
@given(TREES)
@QUICK
def test_what_json_writes_is_read_back(tree):
    for text in (json.dumps(tree), json.dumps(tree, ensure_ascii=False, indent=1)):
        assert ours(text) == tree


@pytest.mark.long
@given(TREES, st.booleans(), st.booleans())
@QUICK
def test_what_the_witness_writes_in_json5_is_read_back(tree, quotes, trailing):
    text = witness.dumps(tree, quote_keys=quotes, trailing_commas=trailing, indent=2)
    assert ours(text) == tree == witness.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        "{a: 1, 'b': 2, \"c\": 3,}", "[1, 2, 3,]", "[.5, 5., +1, -1, 0x1F, -0xf, 1e3, 1E-3, .5e2]", "'it\\'s'",
        "'a\\\nb'", "'\\x41\\u0041\\t\\v\\q'", "// c\n{/* d */a/**/:/***/1}// e", "{$a_1: null, ünï: true}",
        "\ufeff[1]", "[\u00a0\u2028 1]", "'a\u2028b'", "[[], {}, [{}]]", "-0", "0", "-.0", "[true, false, null]",
    ],
)  # fmt: skip
def test_the_corners_of_json5_are_what_the_witness_says(text):
    assert ours(text) == witness.loads(text.removeprefix("\ufeff"))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1 2]", "{a 1}", "{1a: 1}", "01", "1.2.3", "'a", "'a\nb'", "[,]", "{,}", "nul", "+", "0x", "1e", "/*",
     "[1]]", "{a: }", "'\\x4'", "'\\u12'", "- 1", "a", "{'a' 'b'}", "/ 1"],
)  # fmt: skip
def test_what_the_witness_refuses_is_refused(text):
    with pytest.raises(ValueError):
        witness.loads(text)
    assert json5.read("a.json5", text).root is None


def shown(nodes: list[kdl.KdlNode]) -> list[object]:
    return [
        (
            node.name,
            [arg.value for arg in node.args],
            {name: value.value for name, value in node.props.items()},
            shown(node.children),
        )
        for node in nodes
    ]


def witnessed(text: str) -> list[object]:
    config = kdl_witness.ParseConfig(nativeUntaggedValues=True, nativeTaggedValues=False)

    def plain(value: object) -> object:
        return getattr(value, "value", value)

    def nodes(found: object) -> list[object]:
        return [
            (
                node.name,
                [plain(arg) for arg in node.args],
                {k: plain(v) for k, v in node.props.items()},
                nodes(node.nodes),
            )
            for node in found  # type: ignore[attr-defined]
        ]

    return nodes(kdl_witness.parse(text, config).nodes)


def test_a_whole_specification_is_what_the_witness_says():
    # The witness knows the first version of KDL only, where keywords stand without their '#'.
    text = (SAME / "sweep.kdl").read_text().replace("#true", "true").replace("#false", "false")
    assert shown(kdl.read("a.kdl", text)) == witnessed(text)


@pytest.mark.parametrize(
    "text",
    [
        "a", "a 1 2.5 -3 1e3 1_000 0x1F 0b101 0o17", 'a "x" b="y" { c 1; d; }', "a true false null",
        'a r"x\\y" r#"q"q"#', "a /-1 2 /-b=1", "/-a\nb", "a \\\n 1 \\ // c\n 2",
        "a // c\nb /* d /* e */ f */ 1", "(u8)a (x)1 b=(y)2", '"quoted name" 1', 'a "\\n\\t\\"\\\\\\u{e9}\\/"',
        "a;b;c", "a-b.c 1", "a { b { c { d 1; }\n }\n }", 'a "line\nbreak"', "\n\n  a\r\n\tb  ", "a b=1 b=2", "",
    ],
)  # fmt: skip
def test_the_corners_of_kdl_are_what_the_witness_says(text):
    assert shown(kdl.read("a.kdl", text)) == witnessed(text)


@pytest.mark.parametrize(
    "text", ["a {", "}", 'a "x', "a 1x", "a = 1", "/* x", 'a "\\u{zz}"', "a (u8", "a 0xg", "1"]
)
def test_what_the_witness_of_kdl_refuses_is_refused(text):
    with pytest.raises(kdl_witness.ParseError):
        witnessed(text)
    with pytest.raises(Refusal):
        kdl.read("a.kdl", text)


KDL_SCALARS = st.booleans() | st.none() | st.integers(-(2**53), 2**53) | TEXTS


def written(value: object) -> str:
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(c if c.isprintable() else f"\\u{{{ord(c):x}}}" for c in escaped) + '"'
    return json.dumps(value)


NODES = st.recursive(
    st.tuples(
        TEXTS,
        st.lists(KDL_SCALARS, max_size=3),
        st.dictionaries(TEXTS, KDL_SCALARS, max_size=2),
        st.just([]),
    ),
    lambda inner: st.tuples(
        TEXTS, st.lists(KDL_SCALARS, max_size=2), st.just({}), st.lists(inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.long
@given(st.lists(NODES, max_size=3))
@QUICK
def test_nodes_of_any_kind_are_read_back(nodes):
    def text(found: object) -> str:
        return "\n".join(
            " ".join(
                (
                    written(name),
                    *map(written, args),
                    *(f"{written(k)}={written(v)}" for k, v in props.items()),
                )
            )
            + (" {\n" + text(children) + "\n}" if children else "")
            for name, args, props, children in found  # type: ignore[attr-defined]
        )

    document = text(nodes)
    found = shown(kdl.read("a.kdl", document))
    assert found == witnessed(document)
    assert json.dumps(found) == json.dumps([list(node) for node in nodes])
    assert not any(
        isinstance(value, float) and math.isnan(value) for node in found for value in node[1]
    )
