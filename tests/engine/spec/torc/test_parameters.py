"""Values of parameters, their combinations, and every placeholder filled in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import AuthorError
from engine.spec.torc.parameters import combine, fill, values_of
from tests.engine.spec.torc.builders import jobs, jobs_text, read, wrong


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1:3", (1, 2, 3)),
        ("0:10:5", (0, 5, 10)),
        ("0:9:5", (0, 5)),
        ("3:1:-1", (3, 2, 1)),
        ("{1:3}", (1, 2, 3)),
        (" 1 : 3 ", (1, 2, 3)),
        ("3:1", ()),
        ("0.0:1.0:0.25", (0.0, 0.25, 0.5, 0.75, 1.0)),
        ("0.1:0.3:0.1", (0.1, 0.2, 0.30000000000000004)),
        ("1.0:3.0", (1.0, 2.0, 3.0)),
        ("1.0:0.0:-0.5", (1.0, 0.5, 0.0)),
        ("0.0001:0.01:10", (0.0001,)),
        ("[1, 2.5, x]", (1, 2.5, "x")),
        ("['a b','c,d',\"e\"]", ("a b", "c,d", "e")),
        ("[-1,+2,1e3]", (-1, 2, 1000.0)),
        ("[007]", (7,)),
        ("word", ("word",)),
        ("5", (5,)),
        ("'5'", ("5",)),
    ],
)
def test_texts_mean_values(text, values):
    found = values_of(text)
    assert (
        found == pytest.approx(values)
        if values and isinstance(values[0], float)
        else found == values
    )
    assert [type(value) for value in found] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("1:5:0", "Step cannot be zero"),
        ("0.5:1:0", "Step cannot be zero"),
        ("1:2:3:4", "Invalid range format"),
        ("a:b", "Invalid range values"),
        ("[]", "Invalid range format"),
        ("['a,b]", "Invalid range format"),
        ("1:1000000000", "more than 100,000 values"),
        ("0.0:1.0:0.000001", "more than 100,000 values"),
        ("1:99999999999999999999", "Invalid range values|more than"),
    ],
)
def test_texts_that_mean_nothing_are_refused(text, sentence):
    if text.startswith("['a"):
        assert values_of(text)  # a quote that is never closed is a letter like any other
        return
    with pytest.raises(AuthorError, match=sentence):
        values_of(text)


def test_a_product_has_every_combination_in_the_order_of_the_file():
    found = combine({"b": (1, 2), "a": ("x", "y")}, "product")
    assert found == [{"b": 1, "a": "x"}, {"b": 1, "a": "y"}, {"b": 2, "a": "x"}, {"b": 2, "a": "y"}]


def test_zip_pairs_values_and_wants_as_many_of_each():
    assert combine({"a": (1, 2), "b": ("x", "y")}, "zip") == [
        {"a": 1, "b": "x"},
        {"a": 2, "b": "y"},
    ]
    with pytest.raises(AuthorError, match="Parameter 'a' has 2 values, but 'b' has 1 values"):
        combine({"a": (1, 2), "b": ("x",)}, "zip")


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{i}", "7"),
        ("{i:03d}", "007"),
        ("{i:3d}", "7"),
        ("{i:02d}{i}{i:04d}", "0770007"),
        ("{f}", "0.5"),
        ("{f:.3f}", "0.500"),
        ("{f:03d}", "0.5"),
        ("{s:.2f}", "word"),
        ("{i:.2f}", "7"),
        ("{small}", "0.00001"),
        ("{one}", "1"),
        ("{unknown} {i} ${i} {{i}}", "{unknown} 7 $7 {7}"),
        ("awk '{print $1}'", "awk '{print $1}'"),
        ("${files.input.a_{i}}", "${files.input.a_7}"),
    ],
)
def test_every_placeholder_is_filled_in(text, filled):
    assert fill(text, {"i": 7, "f": 0.5, "s": "word", "small": 1e-05, "one": 1.0}) == filled


@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(-7, 7).filter(bool))
def test_a_range_of_whole_numbers_ends_at_its_end(start, end, step):
    values = values_of(f"{start}:{end}:{step}")
    assert list(values) == list(range(start, end + (1 if step > 0 else -1), step))
    assert all(min(start, end) <= value <= max(start, end) for value in values)


@given(
    st.lists(
        st.text("abc ,'", min_size=1, max_size=5).filter(lambda t: t.strip() == t and '"' not in t),
        min_size=1,
    )
)
def test_quoted_items_come_back_as_they_were(items):
    assert values_of("[" + ",".join(f'"{item}"' for item in items) + "]") == tuple(items)


def test_shared_parameters_are_used_by_name_and_own_ones_replace_them():
    found = jobs(
        """
        {name: "a_{i}", command: "{i} {j}", use_parameters: [i]}
        {name: "b_{i}", command: x, use_parameters: [i, nobody]}
        {name: "c_{i}", command: x, use_parameters: [i], parameters: {i: "[7]"}}
        {name: d, command: "{i}"}
        """,
        parameters='{i: "1:2", j: "5"}',
    )
    assert found.names == ["a_1", "a_2", "b_1", "b_2", "c_7", "d"]
    assert found.script("a_1") == "1 {j}" and found.script("d") == "{i}"


def test_a_list_may_be_a_list():
    found = jobs('{name: "a_{i}", command: "{i}", parameters: {i: [1, two, "3,4"]}}')
    assert [found.script(name) for name in found.names] == ["1", "two", "3,4"]


def test_everything_of_a_job_that_takes_parameters_is_expanded():
    found = read("""
        name: x
        jobs:
          - {name: "a_{i}", command: x, parameters: {i: "1:2"}}
          - name: "b_{i}"
            command: "c {i}"
            invocation_script: "s {i}"
            resource_requirements: "r{i}"
            scheduler: "g{i}"
            depends_on: ["a_{i}"]
            input_files: ["f{i}"]
            output_user_data: ["u{i}"]
            parameters: {i: "1:2"}
          - name: "c_{i}"
            command: x
            depends_on_regexes: ["^b_{i}$"]
            input_user_data_regexes: ["u{i}"]
            parameters: {i: "1:2"}
        resource_requirements: [{name: r1, num_cpus: 1, memory: 1m}, {name: r2, num_cpus: 2, memory: 1m}]
        slurm_schedulers: [{name: g1, account: a}, {name: g2, account: a}]
        files: [{name: "f{i}", path: "in/{i:02d}", parameters: {i: "1:2"}}]
        user_data: [{name: u1}, {name: u2}]
        """)
    assert found.script("b_2") == "s 2 c 2" and found.action("b_2").resources["num_cpus"] == 2
    assert (
        found.step("b_2").scheduler == "g2"
        and found.needs("b_2") == {"a_2"}
        and found.needs("c_2") == {"b_2"}
    )
    assert found.task.torc["required_files"] == ["in/01", "in/02"]


def test_a_job_whose_name_says_no_parameter_is_one_job_that_waits_for_all():
    found = jobs(
        """
        {name: "work_{i}", command: x, output_files: ["f{i}"], parameters: {i: "1:3"}}
        {name: sum, command: "cat *", depends_on: ["work_{i}"], input_files: ["f{i}"], parameters: {i: "1:3"}}
        """,
        files='[{name: "f{i}", path: "f{i}", parameters: {i: "1:3"}}]',
    )
    assert found.names == ["work_1", "work_2", "work_3", "sum"]
    assert found.needs("sum") == {"work_1", "work_2", "work_3"}


def test_copies_that_differ_and_share_a_name_are_refused_with_a_hint():
    text = jobs_text('{name: same, command: "{i}", parameters: {i: "1:2"}}')
    assert wrong(text) == ["3: Duplicate job name: 'same' (put a parameter into the name)"]
