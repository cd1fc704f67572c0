"""Every filter of Tera, and ours, on what it takes and on what it does not."""

from __future__ import annotations

from typing import Any

import pytest

from engine import templating
from engine.errors import TemplateError
from engine.templating.runtime import BUILT_IN_FILTERS

PEOPLE = [
    {"name": "Bea", "age": 29, "team": {"id": 2}, "draft": True},
    {"name": "Ann", "age": 31, "team": {"id": 1}, "draft": False},
    {"name": "Cid", "age": 30, "team": {"id": 2}, "draft": None},
    {"name": "Dan", "age": 30},
]

TABLE: list[tuple[Any, str, Any]] = [
    ("Straße é", "upper", "STRASSE É"),
    ("ÀB", "lower", "àb"),
    ("\u2003 a b \n", "trim", "a b"),
    ("  a ", "trim_start", "a "),
    ("  a ", "trim_end", "  a"),
    ("//a/b//", "trim_start_matches(pat='//')", "a/b//"),
    ("//a/b//", "trim_end_matches(pat='/')", "//a/b"),
    ("a", "trim_start_matches(pat='')", "a"),
    ("\n\na", r"trim_start_matches(pat='\n')", "a"),
    ("abcdef", "truncate(length=3)", "abc…"),
    ("abcdef", "truncate(length=3, end='')", "abc"),
    ("abc", "truncate(length=3)", "abc"),
    ("x" * 300, "truncate", "x" * 255 + "…"),
    ("a  b\nc", "wordcount", 3),
    ("a.b.c", "replace(from='.', to='-')", "a-b-c"),
    (r"a\nb", r"replace(from='\n', to=' ')", "a b"),
    ("hELLO wORLD", "capitalize", "Hello world"),
    ("", "capitalize", ""),
    ("foo  bAR don't", "title", "Foo  Bar Don't"),
    ("a\r\nb\nc", "linebreaksbr", "a<br>b<br>c"),
    ("a\n\nb", "indent", "a\n\n    b"),
    ("a\n\nb", "indent(prefix='> ', first=true, blank=true)", "> a\n> \n> b"),
    ("<b>Jo</b>el<!-- <x> -->!", "striptags", "Joel!"),
    ("1 < 2 <br", "striptags", "1 < 2 <br"),
    ("<!-- a <b> c", "striptags", " c"),
    ("<p>\n<a> </a>\r\n </p>", "spaceless", "<p><a></a></p>"),
    ("/foo?a=b&c=d é", "urlencode", "/foo%3Fa%3Db%26c%3Dd%20%C3%A9"),
    ("/foo?a=b_c.d", "urlencode_strict", "%2Ffoo%3Fa%3Db%5Fc%2Ed"),
    ('<a href="x/y">\'&', "escape", "&lt;a href=&quot;x&#x2F;y&quot;&gt;&#x27;&amp;"),
    ('<a b="c/d">\'&', "escape_xml", "&lt;a b=&quot;c/d&quot;&gt;&apos;&amp;"),
    ('I\'m "x" \\', "addslashes", 'I\\\'m \\"x\\" \\\\'),
    ("-Hello, wörld! It's 1_0 ", "slugify", "hello-world-it-s-1-0"),
    ("a/b/c", "split(pat='/')", ["a", "b", "c"]),
    ("a\nb\tc", r"split(pat='\n')", ["a", "b\tc"]),
    ("", "split(pat=',')", [""]),
    ("ab", "split(pat='')", ["", "a", "b", ""]),
    (" 42 ", "int", 42),
    ("-7", "int", -7),
    ("1.9", "int", 1),
    ("0xff", "int(base=16)", 255),
    ("0b101", "int(base=2)", 5),
    ("x", "int", 0),
    ("x", "int(default=-1)", -1),
    ("1_000", "int", 0),
    ("99999999999999999999", "int(default=1)", 1),
    (3.99, "int", 3),
    (1e30, "int", 2**63 - 1),
    ("1.5", "float", 1.5),
    ("1e3", "float", 1000.0),
    ("x", "float(default=0.5)", 0.5),
    (2, "float", 2.0),
    ([1, 2, 3], "first", 1),
    ([], "first", ""),
    ([1, 2, 3], "last", 3),
    ([], "last", ""),
    ([1, 2, 3], "nth(n=1)", 2),
    ([1, 2, 3], "nth(n=9)", ""),
    (["a", 1, True, None, 2.0], "join(sep=', ')", "a, 1, true, , 2"),
    (["a", "b"], "join", "ab"),
    ([], "join(sep=',')", ""),
    ([3, -1, 2.5], "sort", [-1, 2.5, 3]),
    (["b", "a", "B"], "sort", ["B", "a", "b"]),
    ([True, False], "sort", [False, True]),
    ([[1, 2], [], [3]], "sort", [[], [3], [1, 2]]),
    ([], "sort", []),
    (PEOPLE[:3], "sort(attribute='team.id') | map(attribute='name')", ["Ann", "Bea", "Cid"]),
    (PEOPLE, "sort(attribute='age') | map(attribute='name')", ["Bea", "Cid", "Dan", "Ann"]),
    ([1, 2, 1, 1.0], "unique", [1, 2]),
    (["a", "A", "b"], "unique", ["a", "b"]),
    (["a", "A", "b"], "unique(case_sensitive=true)", ["a", "A", "b"]),
    (PEOPLE, "unique(attribute='age') | map(attribute='name')", ["Bea", "Ann", "Cid"]),
    ([1, 2, 3, 4, 5], "slice(end=-2)", [1, 2, 3]),
    ([1, 2, 3, 4, 5], "slice(start=1, end=3)", [2, 3]),
    ([1, 2, 3], "slice(start=-2)", [2, 3]),
    ([1, 2, 3], "slice(start=5)", []),
    (PEOPLE, "group_by(attribute='team.id')", {"2": [PEOPLE[0], PEOPLE[2]], "1": [PEOPLE[1]]}),
    (PEOPLE, "group_by(attribute='draft')", {"true": [PEOPLE[0]], "false": [PEOPLE[1]]}),
    ([], "group_by(attribute='x')", {}),
    (PEOPLE, "filter(attribute='draft', value=true)", [PEOPLE[0]]),
    (PEOPLE, "filter(attribute='team.id', value=2) | length", 2),
    (PEOPLE, "filter(attribute='draft') | length", 2),
    (PEOPLE, "map(attribute='team.id')", [2, 1, 2]),
    ([{"a.b": 1}], "map(attribute='\"a.b\"')", [1]),
    ([[1, 2], [3]], "map(attribute='0')", [1, 3]),
    ([1], "concat(with=2)", [1, 2]),
    ([1], "concat(with=[2, [3]])", [1, 2, [3]]),
    ("äbc", "length", 3),
    ([1, 2], "length", 2),
    ({"a": 1}, "length", 1),
    ("abc", "reverse", "cba"),
    ([1, 2], "reverse", [2, 1]),
    (-3, "abs", 3),
    (-2.5, "abs", 2.5),
    (1, "pluralize", ""),
    (-1, "pluralize", ""),
    (2, "pluralize", "s"),
    (0, "pluralize(singular='y', plural='ies')", "ies"),
    (1, "pluralize(singular='y', plural='ies')", "y"),
    (2.5, "round", 3.0),
    (-2.5, "round", -3.0),
    (0.49999999999999994, "round", 0.0),
    (2.1, "round(method='ceil')", 3.0),
    (2.9, "round(method='floor')", 2.0),
    (3.14159, "round(precision=2)", 3.14),
    (1234.5, "round(precision=-2)", 1200.0),
    (123456789, "filesizeformat", "117.74 MB"),
    (1024, "filesizeformat", "1 KB"),
    (12, "filesizeformat", "12 B"),
    ({"a/b": 1}, "get(key='a/b')", 1),
    ({}, "get(key='a', default='d')", "d"),
    ({"b": [1, 1.0, None, "é\n"], "a": True}, "json_encode", '{"a":true,"b":[1,1.0,null,"é\\n"]}'),
    ({"b": 1}, "json_encode(pretty=true)", '{\n  "b": 1\n}'),
    ("x", "json_encode()", '"x"'),
    (2.0, "json_encode", "2.0"),
    ([1], "json", "[1]"),
    (None, "json", "null"),
    ([1, "a"], "as_str", "[1, a]"),
    ({}, "as_str", "[object]"),
    (2.0, "as_str", "2"),
    ("<b>", "safe", "<b>"),
    (None, "default(value=1)", 1),
    ('it\'s $HOME `x` "q"', "sh", "'it'\"'\"'s $HOME `x` \"q\"'"),
    ("plain", "sh", "plain"),
    ("", "sh", "''"),
    (None, "sh", "''"),
    (True, "sh", "true"),
    (["a b", 1, "c'"], "sh", "'a b' 1 'c'\"'\"''"),
    ({"a": 1}, "sh", "'{\"a\":1}'"),
    ('it\'s "x"\n\u2028', "py", "'it\\'s \"x\"\\n\\u2028'"),
    ([1, True, None, {"a": 2.5}], "py", "[1, True, None, {'a': 2.5}]"),
]


@pytest.mark.parametrize(("value", "filters", "wanted"), TABLE)
def test_a_filter_makes_of_a_value_what_tera_makes_of_it(value: Any, filters: str, wanted: Any):
    made = templating.evaluate("{{ input.x | " + filters + " }}", {"input": {"x": value}})
    assert made == wanted and type(made) is type(wanted)


def test_the_table_leaves_no_filter_out():
    used = {one.split("(")[0].strip() for _, filters, _ in TABLE for one in filters.split(" | ")}
    assert used | {"date"} == BUILT_IN_FILTERS


REFUSALS: list[tuple[Any, str, str]] = [
    (1, "upper", "works on a string, not on a number"),
    ("a", "trim_start_matches", "needs the argument 'pat'"),
    ("a", "truncate(length=-1)", "must be from 0"),
    ("a", "truncate(length='x')", "must be a whole number, not a string"),
    ("a", "indent(first=1)", "must be true or false, not a number"),
    ([1], "int", "works on a string or a number, not on an array"),
    ("1", "int(base=99)", "must be from 2 to 36"),
    ("a", "first", "works on an array, not on a string"),
    ([1], "nth", "needs the argument 'n'"),
    ([1, "a"], "sort", "cannot put a number and a string in order"),
    ([None], "sort", "cannot put null in order"),
    ([{}], "sort", "cannot put an object in order"),
    ([{}], "sort(attribute='a')", "the attribute 'a' is missing in an element"),
    ([1, "a"], "unique", "cannot compare a number with a string"),
    ([[1]], "unique", "cannot compare an array"),
    ([1], "group_by", "needs the argument 'attribute'"),
    ([1], "filter", "needs the argument 'attribute'"),
    ([1], "map", "needs the argument 'attribute'"),
    ([1], "concat", "needs the argument 'with'"),
    (1, "length", "works on a string, an array or an object, not on a number"),
    (None, "length", "not on null"),
    (1, "reverse", "works on a string or an array, not on a number"),
    ("1", "abs", "works on a number, not on a string"),
    (1, "round(method='up')", "must be common, ceil or floor"),
    (-1, "filesizeformat", "not negative"),
    ({}, "get(key='a')", "the object has no key 'a', and no default is given"),
    ([], "get(key='a')", "works on an object, not on an array"),
    ("\ud800", "urlencode", "has no UTF-8 form"),
    (1, "date(format='%Q')", "'%Q', which is not a date format letter"),
    ("01.02.2024", "date", "neither YYYY-MM-DD nor an ISO 8601 date and time"),
    (1.5, "date", "works on a timestamp in whole seconds or a string, not on a number"),
    (
        1,
        "date(timezone='Mars/Base')",
        "there is no time zone 'Mars/Base'; write one like Europe/Berlin",
    ),
    (1, "date(timezone='../../../etc/passwd')", "there is no time zone"),
    (1, "date(timezone='Europe')", "there is no time zone"),
    (10**17, "date", "the date is out of range"),
    ("2024-02-30", "date", "the date is out of range"),
]


@pytest.mark.parametrize(("value", "filters", "wanted"), REFUSALS)
def test_a_filter_says_what_it_cannot_take(value: Any, filters: str, wanted: str):
    with pytest.raises(TemplateError) as caught:
        templating.render("{{ input.x | " + filters + " }}", {"input": {"x": value}})
    name = filters.split("(")[0]
    assert str(caught.value).startswith(f"the filter '{name}'") and wanted in str(caught.value)


DATES: list[tuple[Any, str, str]] = [
    (1482720453, "", "2016-12-26"),
    (1482720453, "format='%Y-%m-%d %H:%M'", "2016-12-26 02:47"),
    (-1, "format='%F %T'", "1969-12-31 23:59:59"),
    ("2017-03-05", "format='%a, %d %b %Y %H:%M:%S %z'", "Sun, 05 Mar 2017 00:00:00 +0000"),
    (
        "2017-03-05T00:00:00.602",
        "format='%A %e %B %y %H:%M:%S%.3f'",
        "Sunday  5 March 17 00:00:00.602",
    ),
    ("1996-12-19T16:39:57-08:00", "format='%Y-%m-%d %z'", "1996-12-19 -0800"),
    ("1996-12-19T16:39:57-08:00", "format='%s %:z %Z'", "851042397 -08:00 -08:00"),
    ("2019-09-19T01:48:44.581Z", "timezone='America/New_York'", "2019-09-18"),
    (
        "2019-09-19T13:18:48.731Z",
        "format='%Y-%m-%d %H:%M %Z', timezone='Asia/Shanghai'",
        "2019-09-19 21:18 CST",
    ),
    (0, "timezone='America/New_York', format='%H'", "19"),
    ("2024-02-03T04:05", "timezone='Asia/Tokyo', format='%H'", "04"),
    (
        "2024-01-07T15:04:05Z",
        "format='%I %l %p %P %k %j %U %W %V %G %u %w %C %q'",
        "03  3 PM pm 15 007 01 01 01 2024 7 0 20 1",
    ),
    ("2024-01-07T05:04:05Z", "format='%-d/%-m %_H %0e %-I'", "7/1  5 07 5"),
    (
        "2024-01-07T05:04:05.120Z",
        "format='%f %.f %.6f %3f %6f %9f'",
        "120000000 .120 .120000 120 120000 120000000",
    ),
    (
        "2024-01-07T05:04:05Z",
        "format='%D %x %v %R %X %r %h%n%t%%'",
        "01/07/24 01/07/24  7-Jan-2024 05:04 05:04:05 05:04:05 AM Jan\n\t%",
    ),
    (
        "2024-01-07T05:04:05Z",
        "format='%c | %+'",
        "Sun Jan  7 05:04:05 2024 | 2024-01-07T05:04:05+00:00",
    ),
]


@pytest.mark.parametrize(("value", "arguments", "wanted"), DATES)
def test_date_writes_times_with_the_letters_of_chrono(value: Any, arguments: str, wanted: str):
    assert (
        templating.render("{{ input.x | date(" + arguments + ") }}", {"input": {"x": value}})
        == wanted
    )


def test_arguments_may_come_from_the_context():
    data = {"input": {"x": "a,b", "sep": ","}}
    assert templating.evaluate("{{ input.x | split(pat=input.sep) }}", data) == ["a", "b"]
