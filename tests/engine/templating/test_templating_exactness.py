"""Where Tera quietly gives another value than the author means."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from engine import templating
from engine.templating import arguments
from engine.templating.calls import FUNCTIONS
from engine.templating.runtime import BUILT_IN_FILTERS

NEAR = {"one": 9007199254740993, "two": 9007199254740992, "most": 2**63 - 1, "minus": -7}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("{{ one == two }} {{ one != two }}", "false true"),
        (
            "{{ one > two }} {{ one <= two }} {{ two < one }} {{ two >= one }}",
            "true false true false",
        ),
        ("{{ most == 9223372036854775806 }}", "false"),
        ("{{ one is odd }} {{ one is even }} {{ one is divisibleby(2) }}", "true false false"),
        (
            "{{ most is divisibleby(7) }} {{ minus is divisibleby(0) }} {{ minus is odd }}",
            "true false true",
        ),
        (
            "{{ most | round }} {{ most | round(method='floor', precision=2) }}",
            "9223372036854775807 9223372036854775807",
        ),
        ("{{ 2.5 | round }} {{ 5 | round }} {{ 1 == 1.0 }}", "3 5 true"),
    ],
)
def test_whole_numbers_of_64_bits_are_told_apart(text: str, wanted: str):
    assert templating.render(text, NEAR) == wanted


def test_every_argument_that_a_filter_reads_is_in_the_table_and_no_other():
    read = {"value"}  # of `default`, which the compiler carries out
    folder = Path(arguments.__file__).parent
    for file in ("text_filters.py", "data_filters.py", "dates.py", "calls.py"):
        for node in ast.walk(ast.parse((folder / file).read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr.endswith("argument")
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                read.add(node.args[0].value)
    tables = (arguments.OF_FILTERS, arguments.OF_FUNCTIONS)
    assert {one for table in tables for names in table.values() for one in names} == read | {
        "start",
        "end",
    }
    assert set(arguments.OF_FILTERS) <= BUILT_IN_FILTERS
    assert set(arguments.OF_FUNCTIONS) == set(FUNCTIONS)
