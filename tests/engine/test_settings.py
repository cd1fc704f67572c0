"""Dataclasses that declare settings, and what stands in a file or in the environment for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest

from engine.errors import AuthorError
from engine.settings.declared import OURS, Key, fill, read_section
from engine.settings.given import Reading, Section, empty, override
from engine.settings.readers import number


@dataclass(frozen=True)
class Oven:
    needs: ClassVar[str] = ".fuel is missing: one of gas, wood"
    fuel: Literal["gas", "wood"]
    degrees: Annotated[float, number(50, 300)] = 200.0

    def find_objection(self) -> str | None:
        return "of wood is never that hot" if (self.fuel, self.degrees) > ("wood", 250) else None


@dataclass(frozen=True)
class Bakery:
    owner: Annotated[str, OURS]
    name: str = "bakery"
    shelves: int = 3
    is_open: bool = True
    folder: Annotated[Path, Key("folder", "directory")] = Path()
    breads: tuple[str, ...] = ()
    allergens: frozenset[str] = frozenset()
    prices: Mapping[str, str] = field(default_factory=dict)
    oven: Oven | None = None
    mill: Annotated[Mapping[str, Any] | None, Section] = None


def bake(text: str, **environ: str) -> tuple[Bakery | None, list[str]]:
    reading = Reading(lambda path: Path("/base") / path)
    root = override(reading.parse("b.yaml", text.encode()), environ, "BAKERY__")
    return fill(Bakery, reading.given(root), owner="ann"), reading.problems


def test_each_type_reads_what_it_says():
    made, problems = bake(
        """
name: "7"
shelves: 4
is_open: false
directory: flour
breads: [rye, "no"]
allergens: [gluten]
prices: {rye: "3.50"}
oven: {fuel: wood, degrees: 220}
"""
    )
    assert problems == []
    assert made == Bakery(
        owner="ann",
        name="7",
        shelves=4,
        is_open=False,
        folder=Path("/base/flour"),
        breads=("rye", "no"),
        allergens=frozenset({"gluten"}),
        prices={"rye": "3.50"},
        oven=Oven("wood", 220),
    )


def test_the_environment_says_the_same_without_types():
    made, problems = bake(
        "shelves: 1\noven: {fuel: gas}",
        BAKERY__NAME="7",
        BAKERY__SHELVES="4",
        BAKERY__IS_OPEN="false",
        BAKERY__BREADS="rye, no",
        BAKERY__ALLERGENS='["gluten, and more"]',
        BAKERY__PRICES='{"rye": "3.50"}',
        BAKERY__OVEN__DEGREES="2.2e2",
    )
    assert problems == []
    assert made == Bakery(
        owner="ann",
        name="7",
        shelves=4,
        is_open=False,
        breads=("rye", "no"),
        allergens=frozenset({"gluten, and more"}),
        prices={"rye": "3.50"},
        oven=Oven("gas", 220),
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nmae: x", "b.yaml:1:1: unknown key 'nmae'; did you mean 'name'?"),
        ("owner: eve", "b.yaml:1:1: unknown key 'owner'"),
        (
            "oven: {fuel: gas, feul: 1}",
            "b.yaml:1:19: unknown key 'oven.feul'; did you mean 'fuel'?",
        ),
        ("oven: {}", "b.yaml:1:1: oven.fuel is missing: one of gas, wood"),
        ("oven: {fuel: gsa}", "b.yaml:1:8: oven.fuel must be one of gas, wood, not 'gsa'; did you"),
        ("oven: {fuel: wood, degrees: 251}", "b.yaml:1:1: oven of wood is never that hot"),
        ("oven: {fuel: gas, degrees: 9}", "oven.degrees must lie between 50 and 300, not 9"),
        ("oven: hot", "b.yaml:1:1: oven must be a mapping; an empty one is `oven: {}`"),
        ("mill: 5", "b.yaml:1:1: mill must be a mapping"),
        ("name: 7", "b.yaml:1:1: name must be a text; put it in quotes"),
        ("name: ''", "b.yaml:1:1: name must not be empty"),
        ("name: [a]", "b.yaml:1:1: name must be a text"),
        ('shelves: "4"', "b.yaml:1:1: shelves must be a whole number, not '4'"),
        ("shelves: true", "shelves must be a whole number, not 'true'"),
        ("shelves: {a: 1}", "shelves must be a whole number, not 'a mapping'"),
        ("is_open: yes", "b.yaml:1:1: is_open must be true or false"),
        ("breads: rye", "b.yaml:1:1: breads must be a list of texts"),
        ("breads: [1]", "b.yaml:1:1: breads must be a list of texts"),
        ("prices: {rye: 3.5}", "b.yaml:1:10: prices.rye must be a text; put it in quotes"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(text: str, sentence: str):
    _, (problem,) = bake(text)
    assert problem.startswith(sentence) or sentence in problem


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("BAKERY__OVEN", "null", "BAKERY__OVEN: oven must be a mapping, written as JSON in the"),
        ("BAKERY__OVEN", '{"fuel": "gas", "x": 1}', "BAKERY__OVEN:1:17: unknown key 'oven.x'"),
        ("BAKERY__SHELVES", "", "BAKERY__SHELVES: shelves must be a whole number, not ''"),
        ("BAKERY__SHELVES", "4 # four", "shelves must be a whole number, not '4 # four'"),
        ("BAKERY__SHELVES", '"4"', "shelves must be a whole number"),
        ("BAKERY__SHELVES", ".inf", "shelves must be a whole number, not '.inf'"),
        ("BAKERY__IS_OPEN", "on", "BAKERY__IS_OPEN: is_open must be true or false"),
        ("BAKERY__SHELF", "1", "BAKERY__SHELF: unknown key 'shelf'; did you mean 'shelves'?"),
    ],
)
def test_the_environment_is_refused_by_name(variable: str, value: str, sentence: str):
    _, (problem,) = bake("", **{variable: value})
    assert sentence in problem


def test_all_that_is_wrong_is_told_at_once_and_only_once():
    _, problems = bake("shelves: x\noven: {fuel: coal, degrees: 1}\nbreads: 1\n")
    assert [problem.split()[1] for problem in problems] == [
        "shelves", "oven.fuel", "oven.degrees", "breads",
    ]  # fmt: skip


def test_a_mapping_that_two_keys_share_is_overridden_under_one_of_them():
    root = Reading().parse("b.yaml", b"mill: &m {stones: 2}\noven: *m\n")
    changed = override(root, {"BAKERY__MILL__STONES": "3"}, "BAKERY__")
    assert changed.plain() == {"mill": {"stones": "3"}, "oven": {"stones": 2}}
    assert root.plain() == {"mill": {"stones": 2}, "oven": {"stones": 2}}


def test_a_section_that_is_passed_on_keeps_its_places():
    made, _ = bake("mill:\n  fule: gas\n")
    assert made is not None and made.mill == {"fule": "gas"}
    with pytest.raises(AuthorError) as refused:
        read_section(Oven, made.mill, "mill")
    assert str(refused.value).splitlines() == [
        "b.yaml:2:3: unknown key 'mill.fule'; did you mean 'fuel'?",
        "b.yaml:1:1: mill.fuel is missing: one of gas, wood",
    ]


def test_a_section_of_plain_values_is_read_as_well():
    assert read_section(Oven, {"fuel": "gas", "degrees": 100}, "oven") == Oven("gas", 100)
    with pytest.raises(AuthorError, match=r"^oven.degrees must lie between 50 and 300, not 1$"):
        read_section(Oven, {"fuel": "gas", "degrees": 1}, "oven")


@pytest.mark.parametrize("text", ["", "# nothing", "~"])
def test_a_file_of_nothing_gives_the_defaults(text: str):
    assert bake(text) == (Bakery(owner="ann"), [])
    assert empty("b.yaml").plain() == {}
