"""What a step has changed, and what that would overwrite."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.state import Change, Kept, StateFile, compare, difference

VALUES = st.dictionaries(st.text(max_size=3), st.integers() | st.booleans() | st.none(), max_size=5)


def file(path: str, digest: str = "d") -> StateFile:
    return StateFile(path, 1, digest)


def test_lines_add_keys_and_leave_the_others():
    kept = Kept(3, {"a": 1, "b": 2}, {"a": 1, "b": 3}, 2).after(Change(3, {"b": 5, "c": 6}))
    assert kept == Kept(4, {"a": 1, "b": 5, "c": 6}, {"a": 1, "b": 4, "c": 4}, 2)


def test_only_keys_written_since_would_be_lost():
    kept = Kept(7, {"a": 1, "b": 2}, {"a": 5, "b": 7}, 6)
    assert kept.lost(Change(5, {"a": 9}), 5) == []
    assert kept.lost(Change(4, {"a": 9, "b": 9}), 4) == ["key 'a'", "key 'b'"]
    assert kept.lost(Change(5, {}, ("b",)), 5) == ["key 'b'"]
    assert kept.lost(Change(5, {"new": 1}, (), (file("x"),)), 5) == ["its files"]
    assert kept.lost(Change(6, {"new": 1}, (), (file("x"),)), 6) == []


def test_many_lost_keys_are_counted():
    written = {f"k{number}": 9 for number in range(8)}
    lost = Kept(9, {}, written).lost(Change(1, dict.fromkeys(written, 0)), 1)
    assert len(lost) == 6 and lost[-1] == "3 more keys"


def test_a_removed_key_that_somebody_else_has_written_is_a_loss():
    gone = Kept(2, {"a": 1}, {"a": 2}).after(Change(2, {}, ("a",)))
    assert gone.values == {} and gone.lost(Change(2, {"a": 5}), 2) == ["key 'a'"]


@given(before=VALUES, whole=VALUES, lines=VALUES)
def test_a_whole_file_of_values_comes_to_exactly_that_with_the_lines_on_top(
    before: dict[str, object], whole: dict[str, object], lines: dict[str, object]
):
    written, removed = difference(before, whole, lines)
    after = Kept(1, before).after(Change(1, written, removed)).values
    expected = {**whole, **lines}
    assert after == expected and {k: type(v) for k, v in after.items()} == {
        k: type(v) for k, v in expected.items()
    }


def test_a_file_of_values_that_changes_nothing_is_no_change():
    assert difference({"a": 1, "b": [True]}, {"b": [True], "a": 1}, {}) == ({}, ())
    assert difference({"a": 1}, {"a": True}, {}) == ({"a": True}, ())
    assert difference({"a": 1}, None, {}) == ({}, ())
    assert Change(3).is_empty and not Change(3, {}, (), ()).is_empty


def test_two_versions_differ_by_keys_and_by_hashes_of_files():
    found = compare(
        ({"a": 1, "b": 1, "c": 1}, {"a": 1, "b": 2, "d": 1}),
        ((file("x"), file("y")), (file("x", "e"), file("z"))),
    )
    assert [(one.name, one.what, one.is_file) for one in found] == [
        ("b", "changed", False),
        ("c", "removed", False),
        ("d", "added", False),
        ("x", "changed", True),
        ("y", "removed", True),
        ("z", "added", True),
    ]
