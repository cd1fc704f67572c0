"""What a template reads and what it writes into a text is known without rendering it."""

from __future__ import annotations

import pytest

from engine.templating import Splice, context_name, references, splices


@pytest.mark.parametrize(
    ("text", "names", "paths"),
    [
        ("plain", set(), set()),
        ("{{ input.name }}", {"input"}, {"input.name"}),
        ("{{ build.output.files.0.name | upper }}", {"build"}, {"build.output.files.0.name"}),
        ("{{ input['a-b'][0].c }}", {"input"}, {"input.a-b.0.c"}),
        ("{{ build.output[input.key].x }}", {"build", "input"}, {"build.output", "input.key"}),
        ("{{ a | default(value=b.c) }}", {"a", "b"}, {"a", "b.c"}),
        (
            "{% if a.b is defined and not c %}{% elif d in e %}{% endif %}",
            {"a", "c", "d", "e"},
            {"a.b", "c", "d", "e"},
        ),
        (
            "{% for x in build.output %}{{ x.name }}{{ loop.index }}{{ y }}{% endfor %}{{ x }}",
            {"build", "y", "x"},
            {"build.output", "y", "x"},
        ),
        ("{% for k, v in o %}{{ k }}{{ v }}{% endfor %}", {"o"}, {"o"}),
        ("{% set a = input.x %}{{ a }}", {"input"}, {"input.x"}),
        ("{% if c %}{% set a = 1 %}{% endif %}{{ a }}", {"c", "a"}, {"c", "a"}),
        ("{{ range(end=input.n) }}", {"input"}, {"input.n"}),
        ("{% raw %}{{ a }}{% endraw %}{# {{ b }} #}", set(), set()),
        ("{% filter replace(from=a, to='x') %}{{ b }}{% endfilter %}", {"a", "b"}, {"a", "b"}),
    ],
)
def test_references_are_the_names_and_paths_that_come_from_the_context(
    text: str, names: set[str], paths: set[str]
):
    found = references(text)
    assert found.names == names
    assert {".".join(path) for path in found.paths} == paths
    assert not found.is_open


def test_a_text_that_cannot_be_understood_may_read_anything():
    assert references("{{ a").is_open
    assert splices("{{ a") == ()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("echo {{ input.a }}", [("input.a", None)]),
        ("echo {{ input.a | sh }}", [("input.a", "sh")]),
        ("echo {{ input.a | default(value='x') | sh }}", [("input.a", "sh")]),
        ("echo {{ input.a | sh | upper }}", [("input.a", "upper")]),
        ("echo {{ 'x' ~ input.a ~ build.output.b | sh }}", [("build.output.b input.a", "sh")]),
        ("echo {{ input.a | default(value=input.b) }}", [("input.a input.b", None)]),
        ("echo {{ input.a | replace(from='x', to=input.b) }}", [("input.a input.b", "replace")]),
        (
            (
                "echo {{ input.a == 'x' }} {{ input.n + 1 }} {{ input.a | length }} {{ input.a is"
                " defined }}"
            ),
            [],
        ),
        ("echo {{ 'fixed' }} {{ now() }} {{ range(end=input.n) }}", []),
        ("{% set a = input.x %}echo {{ a }}", [("input.x", None)]),
        ("{% if c %}{% set a = input.x %}{% endif %}echo {{ a }}", [("a input.x", None)]),
        (
            "{% for f in build.output.files %}echo {{ f.name }} {{ loop.index }}{% endfor %}",
            [("build.output.files", None)],
        ),
        (
            "{% for k, v in input.o %}echo {{ k }}={{ v | sh }}{% endfor %}",
            [("input.o", None), ("input.o", "sh")],
        ),
        ("{% if input.a %}fixed{% endif %}", []),
        ("{{ [input.a, 'x'] | join(sep=' ') }}", [("input.a", "join")]),
    ],
)
def test_splices_name_the_paths_whose_text_shows_up(
    text: str, wanted: list[tuple[str, str | None]]
):
    assert [
        (" ".join(sorted(".".join(p) for p in one.sources)), one.filter) for one in splices(text)
    ] == wanted


def test_a_splice_knows_its_place_and_whether_it_is_quoted():
    plain, quoted, undone = splices("a\n{{ input.a }}\n{{ input.b|sh }} '{{ input.c\n | sh }}'")
    assert plain == Splice("{{ input.a }}", 2, frozenset({("input", "a")}), None, "\n\n")
    assert (quoted.line, quoted.quotes, quoted.is_quoted_for("shell")) == (3, True, True)
    assert (undone.text, undone.quotes, undone.is_quoted_for("shell")) == (
        "{{ input.c | sh }}",
        True,
        False,
    )
    assert not plain.quotes and not plain.is_quoted_for("shell")


@pytest.mark.parametrize(
    ("script", "enclosed"),
    [
        ("echo @", ""),
        ("echo 'a @ b'", "'"),
        ('echo "a @ b"', '"'),
        ('echo "a" @', ""),
        ("echo 'a'\"b\"@'c'", ""),
        ("echo \\' @", ""),
        ('echo "it\'s \\" @"', '"'),
        ('echo "$(cat @)"', ""),
        ("echo \"$(cat '@')\"", "'"),
        ('echo "$(cat a) @"', '"'),
        ("echo `cat @`", "`"),
        ("# don't\necho @", ""),
        ("# don't @", "#"),
        ("echo a#'b @'", "'"),
        ("cat <<EOF\nit's @\nEOF\n", "<<"),
        ("cat <<-'EOF'\n@\n  EOF\n", "<<"),
        ("cat <<EOF\nit's\nEOF\necho @", ""),
        ("echo $((1<<2)) @", ""),
        ("(cd a; echo '@')", "'"),
        ("{% if true %}echo '{% endif %}@'", "'"),
    ],
)
def test_a_splice_knows_which_quotes_of_a_shell_script_it_stands_in(script: str, enclosed: str):
    (splice,) = splices(script.replace("@", "{{ input.a | sh }}"))
    assert splice.enclosed == enclosed
    assert splice.is_quoted_for("shell") is (not enclosed)


@pytest.mark.parametrize(
    ("filter_name", "languages"),
    [
        ("sh", {"shell"}),
        ("py", {"python"}),
        ("json", {"python", "javascript", "typescript", "go"}),
        ("json_encode", {"python", "javascript", "typescript", "go"}),
        ("upper", set()),
    ],
)
def test_a_filter_quotes_for_its_own_language_only(filter_name: str, languages: set[str]):
    (splice,) = splices("x = {{ input.a | " + filter_name + " }}")
    known = ("shell", "python", "javascript", "typescript", "go")
    assert {language for language in known if splice.is_quoted_for(language)} == languages


def test_a_step_is_named_in_templates_with_underscores():
    assert context_name("say-hello-2") == "say_hello_2"
