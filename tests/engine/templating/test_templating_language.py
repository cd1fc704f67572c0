"""Tera's grammar and values, rule by rule."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from timeit import repeat
from typing import Any

import pytest

from engine import templating
from engine.errors import TemplateError

CONTEXT: dict[str, Any] = {
    "input": {
        "name": "Bob",
        "n": 3,
        "text_n": "3",
        "half": 2.5,
        "four": 4.0,
        "big": 1e21,
        "small": 1e-7,
        "yes": True,
        "no": False,
        "text_no": "false",
        "null": None,
        "empty": "",
        "xs": [1, 2, 3],
        "words": ["a", "b"],
        "none": [],
        "o": {"b": 1, "a-1": "dash", "a.b": "dot"},
        "nothing": {},
        "key": "name",
        "zero": 0,
        "people": [{"name": "Ann", "age": 31}, {"name": "Bea", "age": 29}],
    },
    "say_hello": {"output": {"greeting": "hi"}},
}

PRINTS = [
    # what values print
    ("{{ input.name }}", "Bob"),
    ("{{input.name}}", "Bob"),
    ("{{ say_hello.output.greeting }}", "hi"),
    ("{{ input.yes }} {{ input.no }}", "true false"),
    ("[{{ input.null }}]", "[]"),
    ("{{ input.xs }}", "[1, 2, 3]"),
    ("{{ input.words }}", "[a, b]"),
    ("{{ input.none }}", "[]"),
    ("{{ [true, 'x', [1]] }}", "[true, x, [1]]"),
    ("{{ input.o }}", "[object]"),
    ("{{ input.people }}", "[[object], [object]]"),
    ("{{ input.half }} {{ input.four }}", "2.5 4"),
    ("{{ input.big }} {{ input.small }}", "1000000000000000000000 0.0000001"),
    ("{{ 1.0 }} {{ -2 }} {{ -2.50 }}", "1 -2 -2.5"),
    ("{{ true }} {{ True }} {{ false }} {{ False }}", "true true false false"),
    # strings: three quotes, no escapes
    ("{{ \"a'b`c\" }}{{ 'd\"e' }}{{ `f'g\"` }}", "a'b`cd\"ef'g\""),
    (r"{{ 'a\n' }}", r"a\n"),
    (r"{{ 'a\' ~ '\b' }}", r"a\\b"),
    ("{{ '}}' }}{{ '%}' }}", "}}%}"),
    # indexing
    ("{{ input.xs.0 }}{{ input.xs[1] }}{{ input['xs'][2] }}", "123"),
    ('{{ input.o["a-1"] }} {{ input.o[`b`] }} {{ input.o["a.b"] }}', "dash 1 dot"),
    ("{{ input[input.key] }}", "Bob"),
    ("{{ input.o.2nd | default(value='-') }}", "-"),
    ("{{ input.people[0].name }}{{ input.people.1.age }}", "Ann29"),
    # arithmetic
    ("{{ 1 + 1 }} {{ 2 - 1 }} {{ 10 / 2 }} {{ 5 * 2 }} {{ 2 % 2 }}", "2 1 5 10 0"),
    ("{{ 7 / 2 }} {{ 4 / 2 }} {{ 1.5 + 1.5 }}", "3.5 2 3"),
    ("{{ 1 + 2 * 3 - 4 / 2 }}", "5"),
    ("{{ (1 + 2) * 3 }}", "9"),
    ("{{ 10 - 3 - 2 }}", "5"),
    ("{{ -7 % 3 }} {{ 7 % -3 }} {{ 7.5 % 2 }}", "-1 1 1.5"),
    ("{{ 1 / 0 }} {{ 0 / 0 }} {{ 1.5 % 0 }}", "NaN NaN NaN"),
    ("{{ input.n-1 }} {{ input.n -1 }} {{ input.n - -1 }}", "2 2 4"),
    ("{{ 9223372036854775807 + 0 }}", "9223372036854775807"),
    # filters bind weaker than the operators before them
    ("{{ 1 - 4 | abs }}", "3"),
    ("{{ input.xs | length + 1 }}", "4"),
    ("{{ input.xs | length * 2 + 1 }}", "9"),
    ("{{ input.name ~ 'x' | upper }}", "BOBX"),
    ("{{ input.name | upper | lower }}", "bob"),
    # comparison
    ("{{ input.n == 3 }} {{ input.n == 3.0 }} {{ input.n != 4 }}", "true true true"),
    ("{{ input.text_n == 3 }} {{ input.text_n != 3 }}", "false false"),
    ("{{ input.text_n == '3' }} {{ input.name != 'x' }}", "true true"),
    ("{{ input.yes == 1 }} {{ input.yes == true }}", "false true"),
    ("{{ input.null == input.null }} {{ input.null == false }}", "true false"),
    ("{{ input.xs == [1, 2, 3] }}", "true"),
    ("{{ input.xs == [1.0, 2, 3] }}", "false"),
    ("{{ 1 < 2 }} {{ 2 <= 2 }} {{ 1 > 2 }} {{ 2.5 >= 3 }}", "true true false false"),
    ("{{ input.xs | length > 2 }}", "true"),
    # logic
    ("{{ true and false }} {{ true or false }} {{ not true }}", "false true false"),
    ("{{ 'a' or 0 }} {{ 1 and 'a' }}", "true true"),
    ("{{ false and false or true }} {{ true or true and false }}", "true true"),
    ("{{ not false and not false }}", "true"),
    ("{{ not input.n == 3 }}", "false"),
    ("{{ (true or false) and false }}", "false"),
    # truth
    (
        "{{ not input.null }}{{ not input.no }}{{ not input.zero }}{{ not input.empty }}",
        "truetruetruetrue",
    ),
    ("{{ not input.none }}{{ not input.nothing }}{{ not 0.0 }}", "truetruetrue"),
    ("{{ not input.text_no }}{{ not input.xs }}{{ not 0.1 }}", "falsefalsefalse"),
    # in
    ("{{ 2 in input.xs }} {{ 5 in input.xs }} {{ 5 not in input.xs }}", "true false true"),
    ("{{ 'ob' in input.name }} {{ 'b' in input.o }} {{ not 'b' in input.o }}", "true true false"),
    ("{{ 'a' in ['a', 'b'] and true }}", "true"),
    # concatenation
    ("{{ 'a' ~ 1 ~ input.n ~ input.name }}", "a13Bob"),
    ("{{ 'a' ~ 4.0 }} {{ 'a' ~ input.four }}", "a4 a4.0"),
    ("{{ 'a' ~ range(end=2) | length }}", None),
    ("{{ 'a' ~ (input.name | safe) }}", "aBob"),
    # undefined
    ("{{ not missing.path }}", "true"),
    ("{{ missing or 'x' }} {{ missing and true }}", "true false"),
    ("{% if missing %}a{% elif missing.too %}b{% else %}c{% endif %}", "c"),
    ("{% if missing | upper %}a{% else %}b{% endif %}", "b"),
    ("{% if input.n | upper %}a{% else %}b{% endif %}", "b"),
    (
        "{{ missing is defined }} {{ missing is undefined }} {{ missing.x is not defined }}",
        "false true true",
    ),
    ("{{ input.null is defined }}", "true"),
    # default
    ("{{ missing | default(value='d') }}", "d"),
    ("{{ missing.parent.x | default(value='d') }}", "d"),
    ("{{ input.null | default(value='d') }}", "d"),
    (
        (
            "{{ input.empty | default(value='d') }}{{ input.zero | default(value=1) }}{{ input.no |"
            " default(value=1) }}"
        ),
        "0false",
    ),
    ("{{ input.name | default(value=missing) }}", "Bob"),
    ("{{ missing | default(value=input.name | upper) | lower }}", "bob"),
    ("{{ missing | default(value=[]) | length }}", "0"),
    ("{{ missing[input.key] | default(value='d') }} {{ input.xs.9 | default(value='d') }}", "d d"),
    ("{% for x in missing | default(value=[1, 2]) %}{{ x }}{% endfor %}", "12"),
    ("{{ 'a' | default(value='b') }}", "a"),
    # if
    ("{% if input.n == 3 and input.yes %}a{% endif %}", "a"),
    ("{% if input.no %}a{% elif input.n > 2 %}b{% else %}c{% endif %}", "b"),
    # for
    ("{% for x in input.xs %}{{ x }},{% endfor %}", "1,2,3,"),
    ("{% for x in [1, 'a', input.n,] %}{{ x }}{% endfor %}", "1a3"),
    ("{% for c in input.name %}{{ c }}-{% endfor %}", "B-o-b-"),
    ("{% for k, v in input.o %}{{ k }}={{ v }};{% endfor %}", "a-1=dash;a.b=dot;b=1;"),
    ("{% for x in input.xs | reverse %}{{ x }}{% endfor %}", "321"),
    ("{% for x in range(end=3) %}{{ x }}{% endfor %}", "012"),
    ("{% for x in range(start=1, end=9, step_by=3) %}{{ x }}{% endfor %}", "147"),
    ("{% for x in input.none %}a{% else %}b{% endfor %}", "b"),
    ("{% for x in input.xs %}a{% else %}b{% endfor %}", "aaa"),
    (
        (
            "{% for x in input.xs %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last"
            " }} {% endfor %}"
        ),
        "10truefalse 21falsefalse 32falsetrue ",
    ),
    ("{% for x in input.xs %}{% if x == 2 %}{% continue %}{% endif %}{{ x }}{% endfor %}", "13"),
    (
        (
            "{% for x in input.xs %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% endfor %}{{ x |"
            " default(value='-') }}"
        ),
        "1-",
    ),
    (
        (
            "{% for x in input.xs %}{% for y in input.xs %}{% if y > x %}{% break %}{% endif %}{{ y"
            " }}{% endfor %}{{ x }};{% endfor %}"
        ),
        "11;122;1233;",
    ),
    (
        (
            "{% for p in input.people %}{{ p.name }}{% for n in p.name %}{{ loop.index }}{% endfor"
            " %}{{ loop.index }} {% endfor %}"
        ),
        "Ann1231 Bea1232 ",
    ),
    # set
    ("{% set a = 1 %}{% set a = a + 1 %}{{ a }}", "2"),
    ("{% set a = input.xs | length %}{{ a }}", "3"),
    ("{% set a = [1, input.n | upper | default(value=1)] %}", None),
    ("{% set input = 'mine' %}{{ input }}", "mine"),
    ("{% if true %}{% set a = 1 %}{% endif %}{{ a }}", "1"),
    ("{% for x in input.xs %}{% set a = x %}{% endfor %}{{ a | default(value='gone') }}", "gone"),
    (
        "{% for x in input.xs %}{{ a | default(value='-') }}{% set a = x %}{{ a }}{% endfor %}",
        "-1-2-3",
    ),
    ("{% set a = 0 %}{% for x in input.xs %}{% set a = x %}{% endfor %}{{ a }}", "0"),
    (
        (
            "{% set_global a = 0 %}{% for x in input.xs %}{% set_global a = a + x %}{% endfor %}{{"
            " a }}"
        ),
        "6",
    ),
    (
        (
            "{% for x in input.xs %}{% set a = 'l' %}{% set_global a = 'g' %}{{ a }}{% endfor %}{{"
            " a }}"
        ),
        "lllg",
    ),
    # filter sections, raw, comments
    ("{% filter upper %}a {{ input.name }}{% endfilter %}", "A BOB"),
    ("{% filter replace(from='a', to='b') %}banana{% endfilter %}", "bbnbnb"),
    ("{% for x in input.xs %}{% filter trim %} {{ x }} {% endfilter %}{% endfor %}", "123"),
    ("{% raw %}{{ x }}{% if %}{% endraw %}", "{{ x }}{% if %}"),
    ("a{# {{ no }} #}b", "ab"),
    # white space
    ("a\n{%- if true -%}\n b \n{%- endif -%}\n c", "abc"),
    ("a {{- 1 -}} b", "a1b"),
    ("a {#- x -#} b", "ab"),
    ("a {%- raw -%} x {%- endraw -%} b", "axb"),
    ("{% set a = 1 %}\n{{ a }}\n", "\n1\n"),
    ("a\r\n{{ 1 }}\r\n", "a\r\n1\r\n"),
    # text that only looks like a template
    ("print(f'OUTPUT: {{\"count\": {len(df)}}}')", "print(f'OUTPUT: {{\"count\": {len(df)}}}')"),
    ("f\"{{'a': {x}}}\" {{ input.n }}", "f\"{{'a': {x}}}\" 3"),
    ("echo ${#name} {{ input.n }}", "echo ${#name} 3"),
    ("n=${#a[@]} {{ input.n }}\n#f() {\n#}\n", "n=${#a[@]} 3\n#f() {\n#}\n"),
    ("${#text} ${text%#} {{ input.n }}", "${#text} ${text%#} 3"),
    ("class A {#private = {{ input.n }}}", "class A {#private = 3}"),
    ('{"a":{"b":{{ input.n }}}}', '{"a":{"b":3}}'),
    # comments: in one line, or first in their line
    ("a{#no#}b{#{{ input.n }}#}c", "abc"),
    ("a\n  {# one\n  two ${x%#}\n#} b", "a\n   b"),
    ("a\n{#- one\ntwo -#}\n b", "ab"),
    ("}} %} #} { {", "}} %} #} { {"),
    # tests
    ("{{ input.n is odd }} {{ input.n is even }} {{ input.n is not even }}", "true false true"),
    (
        "{{ input.name is string }} {{ input.n is string }} {{ input.n is number }}",
        "true false true",
    ),
    ("{{ input.n is divisibleby(3) }} {{ input.n is divisibleby(0) }}", "true false"),
    (
        "{{ input.xs is iterable }} {{ input.o is iterable }} {{ input.name is iterable }}",
        "true true false",
    ),
    ("{{ input.o is object }} {{ input.xs is object }}", "true false"),
    ("{{ input.name is starting_with('B') }} {{ input.name is ending_with('x') }}", "true false"),
    (
        (
            "{{ input.name is containing('o') }} {{ input.xs is containing(2) }} {{ input.o is"
            " containing('b') }}"
        ),
        "true true true",
    ),
    ("{{ input.name is matching('^[Bb]o') }} {{ input.name is matching('^o') }}", "true false"),
    ("{{ input.name is matching(`(?i)BOB`) and input.n is odd }}", "true"),
]


@pytest.mark.parametrize(("text", "wanted"), [pair for pair in PRINTS if pair[1] is not None])
def test_a_template_prints_what_tera_prints(text: str, wanted: str):
    assert templating.render(text, CONTEXT) == wanted
    assert templating.check(text) is None


REFUSED = [
    # undefined, and where it stands
    ("{{ input.nam }}", "'input.nam' is not defined; did you mean 'input.name'?"),
    ("{{ inptu.name }}", "'inptu.name' is not defined; did you mean 'input.name'?"),
    (
        "{{ say-hello.output.greeting }}",
        (
            "'say' is not defined; did you mean 'say_hello'? Hyphens of a step's name are written"
            " as '_'"
        ),
    ),
    ("{{ input.name.first }}", "'input.name.first' is not defined: 'input.name' is a string"),
    ("{{ input.null.x }}", "'input.null.x' is not defined: 'input.null' is null"),
    ("{{ input.xs.7 }}", "'input.xs.7' is not defined: 'input.xs' has 3 elements"),
    ("{{ wholly_other }}", "'wholly_other' is not defined"),
    ("{{ input.__class__ }}", "'input.__class__' is not defined"),
    ("{{ input.o.items }}", "'input.o.items' is not defined"),
    ("{{ input.name.upper }}", "'input.name.upper' is not defined: 'input.name' is a string"),
    ("{{ input.xs.append }}", "'input.xs.append' is not defined: 'input.xs' has 3 elements"),
    ("{{ missing == 1 }}", "'missing' is not defined"),
    ("{{ missing + 1 }}", "'missing' is not defined"),
    ("{{ missing ~ 'a' }}", "'missing' is not defined"),
    ("{{ missing | upper }}", "'missing' is not defined"),
    ("{{ missing | upper | default(value='d') }}", "'missing' is not defined"),
    ("{{ missing in [1] }}", "'missing' is not defined"),
    ("{{ 1 in missing }}", "'missing' is not defined"),
    ("{{ [missing] }}", "'missing' is not defined"),
    ("{{ 'a' | replace(from='a', to=missing) }}", "'missing' is not defined"),
    ("{% for x in missing %}{% endfor %}", "'missing' is not defined"),
    ("{% set a = missing %}", "'missing' is not defined"),
    ("{% if missing > 1 %}{% endif %}", "'missing' is not defined"),
    ("{{ missing is odd }}", "'missing' is not defined"),
    ("{{ input[missing] }}", "'missing' is not defined"),
    (
        "line one\n\n{{ input.nam }}",
        "line 3: 'input.nam' is not defined; did you mean 'input.name'?",
    ),
    ("{% for x in input.xs %}\n{{ x }}\n{{ y }}{% endfor %}", "line 3: 'y' is not defined"),
    # kinds
    ("{{ input.name < 3 }}", "'<' compares numbers, not a string"),
    ("{{ input.yes < 3 }}", "'<' compares numbers, not a boolean"),
    ("{{ input.name + 1 }}", "'+' calculates with numbers, not with a string"),
    ("{{ input.null * 1 }}", "'*' calculates with numbers, not with null"),
    ("{{ 'a' ~ input.xs }}", "'~' joins strings and numbers, not an array"),
    ("{{ 'a' ~ input.yes }}", "'~' joins strings and numbers, not a boolean"),
    ("{{ 1 in input.n }}", "'in' looks into strings, arrays and objects, not into a number"),
    ("{{ 1 in input.name }}", "only a string can be looked for in a string, not a number"),
    ("{{ 5 % 0 }}", "'%' cannot divide by zero"),
    ("{{ 9223372036854775807 + 1 }}", "the result of '+' does not fit into 64 bits"),
    (
        "{% for x in input.n %}{% endfor %}",
        "a loop runs over an array, an object or a string, not over a number",
    ),
    (
        "{% for x in input.o %}{% endfor %}",
        "a loop over an object needs two variables, as in {% for key, value in object %}",
    ),
    (
        "{% for k, v in input.xs %}{% endfor %}",
        "a loop with two variables runs over an object, not over an array",
    ),
    ("{{ input.xs | upper }}", "the filter 'upper' works on a string, not on an array"),
    (
        "{{ input.xs | join(sep=1) }}",
        "the filter 'join': the argument 'sep' must be a string, not a number",
    ),
    ("{{ input.name is odd }}", "the test 'odd' works on a number, not on a string"),
    ("{{ throw(message='stop here') }}", "stop here"),
    ("{{ range(start=3, end=1) }}", "the function 'range': 'start' is greater than 'end'"),
    (
        "{{ input.name is matching('(') }}",
        "the test 'matching': the pattern is not a regular expression that RE2 understands",
    ),
]


@pytest.mark.parametrize(("text", "wanted"), REFUSED)
def test_what_tera_refuses_is_refused_with_a_sentence(text: str, wanted: str):
    assert templating.check(text) is None, "nothing is wrong with the syntax"
    with pytest.raises(TemplateError) as caught:
        templating.render(text, CONTEXT)
    assert str(caught.value) == wanted


MISWRITTEN = [
    ("{{ now() }}", "now() is not available here, for the text may be rendered more than once"),
    ("{{ input.name | replace(from='a') }}", "the filter 'replace' needs the argument 'to'"),
    (
        "{{ input.words | join(separator=', ') }}",
        "the filter 'join' has no argument 'separator' (did you mean 'sep'?)",
    ),
    (
        "{{ input.half | round(digits=2) }}",
        "the filter 'round' has no argument 'digits' (it takes method, precision)",
    ),
    (
        "{{ input.xs | sort(reverse=true) }}",
        "the filter 'sort' has no argument 'reverse' (it takes attribute)",
    ),
    ("{{ input.name | upper(loud=true) }}", "the filter 'upper' takes no arguments"),
    ("{% filter upper(a=1) %}x{% endfilter %}", "the filter 'upper' takes no arguments"),
    (
        "{{ range(stop=3) }}",
        "the function 'range' has no argument 'stop' (it takes start, end, step_by)",
    ),
    ("{{ }}", "the tag is empty; write {% raw %} around braces that belong to the text"),
    ("{{ input.name", "'{{' has no closing '}}'"),
    ("a\n{% if input.name }}", "line 2: '}' is not allowed here; the tag ends with '%}'"),
    ("{% if a %}", "{% if %} has no {% endif %}"),
    ("a\nb{% for x in y %}", "line 2: {% for %} has no {% endfor %}"),
    ("{% if a %}{% endfor %}", "{% endfor %} does not fit here: {% if %} of line 1 is still open"),
    ("{% endif %}", "{% endif %} does not belong to any tag"),
    ("{% else %}", "{% else %} does not belong to any tag"),
    (
        "{% if a %}{% else %}{% else %}{% endif %}",
        "{% else %} does not fit here: {% if %} of line 1 is still open",
    ),
    ("{% break %}", "{% break %} is outside of a loop"),
    (
        "{% for x in y %}{% filter upper %}{% break %}{% endfilter %}{% endfor %}",
        "{% break %} is outside of a loop",
    ),
    ("{# a", "'{#' opens a comment that never ends; write {% raw %}{#{% endraw %} for the text"),
    (
        "data = {# first\n  1,\n#}\n}",
        "line 1: '{#' opens a comment only if '#}' follows in its line, or if it stands first in"
        " its line and a space comes after it and before '#}'; write {% raw %}{#{% endraw %} for"
        " the text",
    ),
    (
        "awk '{# sum\n n++}'\nb=${a%#}",
        "line 1: '{#' opens a comment only if '#}' follows in its line, or if it stands first in"
        " its line and a space comes after it and before '#}'; write {% raw %}{#{% endraw %} for"
        " the text",
    ),
    (
        "docker ps --format '{{.Names}}'",
        "a name, a number or a closing bracket was expected at '.'; for the templates of another"
        " program, write {% raw %} before them and {% endraw %} after them",
    ),
    ("{% raw %}", "{% raw %} has no {% endraw %}"),
    ("{{ 'a }}", "a string that begins with ' is not closed"),
    ("{{ a b }}", "an operator or the end of the tag was expected, not 'b'"),
    ("{{ a + }}", "a value was expected before the end of the tag"),
    ("{{ -a }}", "'-' needs a number after it or a value before it"),
    ("{{ 007 }}", "a number is written like 12 or 1.5"),
    ("{{ 99999999999999999999 }}", "a whole number does not fit into 64 bits"),
    ("{{ 1 < 2 < 3 }}", "comparisons do not chain; join them with 'and'"),
    ("{{ 'a' + 'b' }}", "'+' adds numbers; join text with '~'"),
    ("{{ a | upper ~ 'b' }}", "'~' joins plain values; apply the filter first with {% set %}"),
    ("{{ a ** 2 }}", "a value was expected, not '*'"),
    (
        "{{ {'a': 1} }}",
        "'{' is not allowed in an expression; write {% raw %} around text that is full of braces",
    ),
    ("{{ a.upper() }}", "methods cannot be called; use a filter, as in {{ name | upper }}"),
    (
        "{{ a if b else c }}",
        "write {% if ... %}{% else %}{% endif %}: there is no 'if' within an expression",
    ),
    (
        "{{ a | default('x') }}",
        "the filter 'default' takes its arguments by name, as in default(value='x')",
    ),
    ("{{ a | default }}", "the filter 'default' needs the argument 'value'"),
    ("{{ a | join(', ') }}", "the filter 'join' takes its arguments by name, as in join(sep=', ')"),
    (
        "{{ a | replace(from='a', from='b') }}",
        "the filter 'replace' is given the argument 'from' twice",
    ),
    ("{{ a | tojson }}", "there is no filter 'tojson' (did you mean 'json'?)"),
    ("{{ a is odd(1) }}", "the test 'odd' takes no values in parentheses"),
    ("{{ a is divisibleby }}", "the test 'divisibleby' takes 1 value in parentheses"),
    ("{{ lipsum() }}", "there is no function 'lipsum'; functions are now, range, throw"),
    (
        "{{ get_random(end=3) }}",
        (
            "get_random() is switched off: a template gives the same text each time; draw the"
            " number in a step"
        ),
    ),
    (
        "{% macro a() %}{% endmacro %}",
        "macros are switched off; repeat the text, or compute it in a step",
    ),
    ("{{ self::a() }}", "macros are switched off; repeat the text, or compute it in a step"),
    (
        "{% include 'a' %}",
        (
            "include is switched off: a template stands alone; a script can read files of the"
            " workspace"
        ),
    ),
    ("{% import 'a' as b %}", "import is switched off: a template stands alone"),
    ("{% extends 'a' %}", "extends is switched off: a template stands alone"),
    ("{% block a %}{% endblock %}", "blocks are switched off: a template stands alone"),
    (
        "{% while a %}",
        (
            "there is no tag {% while %}; tags are if, for, set, set_global, filter, raw, break and"
            " continue"
        ),
    ),
    ("{% set a.b = 1 %}", "the name of the variable was expected, not 'a.b'"),
    # what Jinja's grammar has and Tera's has not
    ("{{ a, b }}", "commas are allowed between arguments and in [lists] only"),
    ("{{ () }}", "commas are allowed between arguments and in [lists] only"),
    ("{{ a[1:2] }}", "':' is not allowed here"),
    ("{{ a[1, 2] }}", "brackets hold a number, a string or a variable"),
    ("{{ a[b + 1] }}", "brackets hold a number, a string or a variable"),
    ("{{ [1][0] }}", "brackets belong after a variable; use {% set %} for its value"),
    ("{{ a[0](b) }}", "methods cannot be called; use a filter, as in {{ name | upper }}"),
    ("{{ a // b }}", "a value was expected, not '/'"),
    ("{{ +a }}", "a value was expected, not '+'"),
    ("{{ 1e5 }}", "a number is written like 12 or 1.5"),
    ("{{ 0x10 }}", "a number is written like 12 or 1.5"),
    ("{{ 1_000 }}", "a number is written like 12 or 1.5"),
    ("{{ é }}", "'é' is not allowed here"),
    ("{{ 'a' 'b' }}", "an operator or the end of the tag was expected, not a string"),
    ("{{ 1 is odd }}", "an operator or the end of the tag was expected, not 'is'"),
    ("{{ a is divisibleby 3 }}", "an operator or the end of the tag was expected, not '3'"),
    ("{{ in }}", "a value was expected, not 'in'"),
    ("{{ range(end=1, 2) }}", "name=value was expected, not '2'"),
    (
        "{{ range(*a) }}",
        "the function 'range' takes its arguments by name, as in range(name=value)",
    ),
    ("{{ range(a.b=1) }}", "'a.b' cannot be the name of an argument"),
    ("{{ a | upper.x }}", "the name of a filter was expected, not 'upper.x'"),
    (
        "{% for a in b if c %}{% endfor %}",
        "write {% if ... %}{% else %}{% endif %}: there is no 'if' within an expression",
    ),
    ("{% for a in b recursive %}{% endfor %}", "the end of the tag was expected, not 'recursive'"),
    ("{% for a.b in c %}{% endfor %}", "the name of the loop's variable was expected, not 'a.b'"),
    ("{% set a %}x{% endset %}", "'=' was expected before the end of the tag"),
    ("{% filter upper | lower %}{% endfilter %}", "a filter section takes one filter"),
    ("{% if %}{% endif %}", "a value was expected before the end of the tag"),
    ("{% %}", "the name of a tag was expected before the end of the tag"),
    ("a\n{{ b\n  c }}", "line 3: an operator or the end of the tag was expected, not 'c'"),
    (
        "{{ " + "(" * 31 + "a" + ")" * 31 + " }}",
        "the expression is nested too deeply; use {% set %} for its parts",
    ),
    (
        "{{ a" + " | upper" * 50 + " }}",
        "the expression is nested too deeply; use {% set %} for its parts",
    ),
    ("{{ " + "1" * 400 + ".5 }}", "a number has too many digits"),
]


@pytest.mark.parametrize(("text", "wanted"), MISWRITTEN)
def test_a_mistake_in_the_syntax_is_found_without_rendering(text: str, wanted: str):
    assert templating.check(text) == wanted
    with pytest.raises(TemplateError) as caught:
        templating.render(text, {})
    assert str(caught.value) == wanted


def test_a_test_on_nothing_says_what_is_missing():
    assert (
        templating.check("{{ a is nonsense }}")
        == "there is no test 'nonsense'; tests are containing, defined, divisibleby, ending_with,"
        " even, iterable, matching, number, object, odd, starting_with, string, undefined"
    )


# --- values with their type
# -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("{{ input.n }}", 3),
        ("  {{ input.n }}\n", 3),
        ("{{- input.n -}}", 3),
        ("{{ input.yes }}", True),
        ("{{ input.null }}", None),
        ("{{ input.xs }}", [1, 2, 3]),
        ("{{ input.o }}", {"b": 1, "a-1": "dash", "a.b": "dot"}),
        ("{{ input.name }}", "Bob"),
        ("{{ input.text_n }}", "3"),
        ("{{ input.n + 1 }}", 4),
        ("{{ input.n > 1 }}", True),
        ("{{ input.people | map(attribute='age') }}", [31, 29]),
        ("{{ missing | default(value=[]) }}", []),
        ("{{ input.n }} ", 3),
        ("{{ input.n }}{{ input.n }}", "33"),
        ("x{{ input.n }}", "x3"),
        ("{% if true %}{{ input.n }}{% endif %}", "3"),
        ("plain", "plain"),
        ("  plain ", "  plain "),
        ("", ""),
    ],
)
def test_a_text_that_is_one_expression_keeps_its_type(text: str, wanted: object):
    made = templating.evaluate(text, CONTEXT)
    assert made == wanted and type(made) is type(wanted)


def test_the_space_around_a_lone_expression_is_printed_unless_trimmed():
    assert templating.render(" {{ input.n }}\n", CONTEXT) == " 3\n"
    assert templating.render(" {{- input.n }}\n", CONTEXT) == "3\n"
    assert templating.render(" {{ input.n -}}\n", CONTEXT) == " 3"


def test_a_comment_beside_a_lone_expression_is_not_printed():
    assert templating.render("{# why #} {{ input.n }}{# {{ #}", CONTEXT) == " 3"
    assert templating.evaluate("{# why #} {{ input.n }}{# {{ #}", CONTEXT) == 3


def test_strings_inside_an_authors_lists_and_maps_are_rendered_and_keys_are_not():
    value = {"a": ["{{ input.n }}", {"b": "x{{ input.n }}"}], "{{ k }}": 1, "t": (True, None, 1.5)}
    assert templating.render_value(value, CONTEXT) == {
        "a": [3, {"b": "x3"}],
        "{{ k }}": 1,
        "t": [True, None, 1.5],
    }


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("{{ input.yes }}", True),
        ("{{ input.no }}", False),
        ("{{ input.text_no }}", False),
        ("{{ input.null }}", False),
        ("{{ input.zero }}", False),
        ("{{ input.empty }}", False),
        ("{{ input.none }}", False),
        ("{{ input.nothing }}", False),
        ("{{ input.xs }}", True),
        ("{{ input.n == 3 }}", True),
        ("{{ not missing.path }}", True),
        ("{% if input.n > 5 %}yes{% endif %}", False),
        (" {% if input.n > 1 %} FALSE {% endif %} ", False),
        ("{{ 'None' }}", False),
        ("NULL", False),
        ("0", False),
        ("", False),
        ("no", True),
        ("input.no", True),
        ("00", True),
    ],
)
def test_when_is_false_for_nothing_and_for_the_words_of_nothing(text: str, wanted: bool):
    assert templating.is_true(text, CONTEXT) is wanted


def test_when_with_an_undefined_value_is_an_error():
    with pytest.raises(TemplateError, match="not defined"):
        templating.is_true("{{ missing }}", CONTEXT)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("{{ input.xs }}", [1, 2, 3]),
        ("{{ input.people }}", CONTEXT["input"]["people"]),
        ("{{ input.people | json_encode() }}", CONTEXT["input"]["people"]),
        ('["a", "{{ input.name }}"]', ["a", "Bob"]),
        (["{{ input.n }}", 2, ["x"]], [3, 2, ["x"]]),
        (("a", {"k": "{{ input.name }}"}), ["a", {"k": "Bob"}]),
        ("{{ range(end=3) }}", [0, 1, 2]),
        ("[]", []),
    ],
)
def test_for_each_takes_arrays_and_text_that_is_one(value: Any, wanted: list[Any]):
    assert templating.items(value, CONTEXT) == wanted


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("{{ missing }}", "for_each expression error: 'missing' is not defined"),
        ("{{ input.o }}", "for_each expression must evaluate to a JSON array, got an object"),
        ("{{ input.n }}", "for_each expression must evaluate to a JSON array, got a number"),
        ("{{ input.null }}", "for_each expression must evaluate to a JSON array, got null"),
        ('{"a": 1}', "for_each expression must evaluate to a JSON array, got an object"),
        ("{{ range(end=10001) }}", "for_each produced 10001 items (max 10000)"),
        (
            "a, b",
            (
                "for_each expression error: for_each template rendered to non-JSON: Expecting value"
                " at line 1 column 1"
            ),
        ),
        (
            "x{{ input.people }}",
            (
                "for_each expression error: for_each template rendered to non-JSON: Expecting value"
                " at line 1 column 1; pipe the value through json_encode()"
            ),
        ),
        (
            "[{{ input.name }}]",
            (
                "for_each expression error: for_each template rendered to non-JSON: Expecting value"
                " at line 1 column 2; pipe the value through json_encode()"
            ),
        ),
        (
            "[NaN]",
            (
                "for_each expression error: for_each template rendered to non-JSON: "
                "a number is too long, or not JSON, or the nesting too deep"
            ),
        ),
    ],
)
def test_for_each_says_why_it_has_no_array(value: str, wanted: str):
    with pytest.raises(TemplateError) as caught:
        templating.items(value, CONTEXT)
    assert str(caught.value) == wanted


def test_for_each_takes_ten_thousand_items_and_not_one_more():
    assert len(templating.items(list(range(10_000)), {})) == 10_000
    assert (
        len(templating.items("{{ a }}", {"a": [{"n": n, "t": "x" * 20} for n in range(10_000)]}))
        == 10_000
    )
    with pytest.raises(TemplateError, match=r"10001 items \(max 10000\)"):
        templating.items(list(range(10_001)), {})


# --- time, lent filters
# ---------------------------------------------------------------------------------------------


def test_now_is_the_time_that_the_caller_gives():
    at = datetime(2024, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=2)))
    assert templating.render("{{ now() }}", {}, now=at) == "2024-02-03T04:05:06+02:00"
    assert templating.render("{{ now(utc=true) }}", {}, now=at) == "2024-02-03T02:05:06+00:00"
    assert templating.evaluate("{{ now(timestamp=true) }}", {}, now=at) == int(at.timestamp())
    assert templating.render("{{ now() | date(format='%H:%M') }}", {}, now=at) == "04:05"
    assert (
        templating.render("{{ now() }}", {}, now=datetime(2024, 1, 1))
        == "2024-01-01T00:00:00+00:00"
    )
    assert (
        templating.render("{{ now(utc=true) | date }}", {}, now=datetime(2024, 1, 1, tzinfo=UTC))
        == "2024-01-01"
    )


def test_a_lent_filter_works_only_where_it_is_lent():
    def vals(value: Any, **arguments: Any) -> Any:
        if value == "ref+bad":
            raise TemplateError("vals eval failed (exit 1)")
        return f"<{value}>" if isinstance(value, str) and value.startswith("ref+") else value

    lent = {"vals": vals}
    assert templating.check("{{ 'ref+x' | vals }}") is None
    assert (
        templating.check("{{ 'ref+x' | vals }}", filters=())
        == "the filter 'vals' is not available here"
    )
    assert templating.render("{{ 'ref+x' | vals | upper }}", {}, filters=lent) == "<REF+X>"
    assert templating.evaluate("{{ a | vals }}", {"a": [1]}, filters=lent) == [1]
    with pytest.raises(TemplateError, match="the filter 'vals' is not available here"):
        templating.render("{{ 'ref+x' | vals }}", {})
    with pytest.raises(TemplateError, match="vals eval failed"):
        templating.render("{{ 'ref+bad' | vals }}", {}, filters=lent)


def test_a_template_rendered_before_and_a_text_without_tags_cost_next_to_nothing():
    text, plain = "echo {{ input.name }}", "echo ${name} " * 20

    def best(text: str) -> float:
        return min(repeat(lambda: templating.render(text, CONTEXT), number=500, repeat=5)) / 500

    assert best(text) < 100e-6  # seen: 4 microseconds
    assert best(plain) < 20e-6  # seen: 1 microsecond


def test_a_rendered_template_is_kept_and_a_forgotten_one_comes_back():
    from engine.templating.rendering import _Cache

    cache = _Cache(2_000)
    first = cache.get("{{ 1 }}")
    assert cache.get("{{ 1 }}") is first
    for number in range(10):
        cache.get(f"{{{{ {number} }}}} again")
    assert cache.get("{{ 1 }}") is not first
    assert len(cache._entries) <= 4
