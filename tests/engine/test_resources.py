"""What steps need and hosts offer: numbers out of text, words in a tag set's name, sentences with
both numbers."""

from __future__ import annotations

import pytest

from engine.errors import AuthorError
from engine.resources import Need, Offer, need_of, read_memory, read_runtime, split_tags, too_small

GIB = 1024**3
ALL = {"num_cpus": 4, "memory": "2Gi", "num_gpus": 1, "num_nodes": 3, "runtime": "PT1H30M"}


def test_a_need_comes_back_out_of_the_words_of_its_tag_set() -> None:
    need = need_of(ALL, is_allocated=True)
    assert need == Need(4, 2 * GIB, 1, 3, 5400)
    assert split_tags("+".join(("script", "slurm:gpu", *need.words))) == (
        frozenset({"script", "slurm:gpu"}),
        need,
    )


def test_time_and_nodes_count_only_where_allocations_run_the_step() -> None:
    assert need_of(ALL) == Need(4, 2 * GIB, 1)
    assert need_of({"num_nodes": 1, "runtime": "5m"}, is_allocated=True) == Need(runtime_s=300)


def test_the_memory_of_a_container_is_a_limit_and_no_need() -> None:
    assert need_of({"memory": "2Gi", "cpu": "1"}, is_script=False) == Need()


@pytest.mark.parametrize(
    ("text", "size"),
    [("512Mi", 512 * 1024**2), ("8g", 8 * GIB), ("4G", 4 * 1000**3), ("100", 100), ("1.5k", 1536)],
)
def test_memory_is_read_in_both_kinds_of_units(text: str, size: int) -> None:
    assert read_memory(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT1H", 3600),
        ("P0DT4M", 240),
        ("P1DT2H3M4S", 93784),
        ("P1W", 604800),
        ("1h30m", 5400),
        ("90", 90),
    ],
)
def test_run_times_are_read_as_torc_and_as_we_write_them(text: str, seconds: int) -> None:
    assert read_runtime(text) == seconds


@pytest.mark.parametrize(
    ("read", "text"), [(read_memory, "lots"), (read_runtime, ""), (read_runtime, "soon")]
)
def test_what_is_no_number_is_an_error_with_an_example(read, text: str) -> None:
    with pytest.raises(AuthorError, match="write for example"):
        read(text)


@pytest.mark.parametrize(
    ("need", "offer", "sentence"),
    [
        (Need(num_cpus=8), Offer(num_cpus=1), "for 8 processors, .* more than 1 processor$"),
        (
            Need(memory_bytes=4 * GIB),
            Offer(memory_bytes=GIB // 2),
            "for 4 GiB of memory, .* more than 512 MiB of",
        ),
        (Need(num_gpus=2), Offer(num_gpus=0), "for 2 GPUs, .* more than 0 GPUs"),
        (Need(num_nodes=2), Offer(num_nodes=1), "for 2 nodes, .* more than 1 node$"),
        (
            Need(runtime_s=5400),
            Offer.of({"ends_at": 700.0}, now=100.0),
            "01:30:00 of time, .* than 00:10:00 of time",
        ),
    ],
)
def test_a_need_that_nobody_meets_is_said_with_both_numbers(
    need: Need, offer: Offer, sentence: str
) -> None:
    with pytest.raises(AssertionError, match=sentence):
        raise AssertionError(too_small(need, [offer]))


def test_the_largest_offer_is_the_one_that_is_named() -> None:
    said = too_small(Need(num_cpus=8), [Offer(num_cpus=2), Offer(num_cpus=6), Offer(num_cpus=4)])
    assert said is not None and said.endswith("more than 6 processors")


def test_hosts_that_each_lack_something_else_are_not_blamed_for_one_thing() -> None:
    said = too_small(
        Need(num_cpus=4, num_gpus=1), [Offer(num_cpus=8, num_gpus=0), Offer(num_cpus=2, num_gpus=4)]
    )
    assert (
        said
        == "The step asks for 4 processors, 1 GPU: some worker or allocation offers each of these,"
        " but none offers all of them"
    )


def test_what_a_host_does_not_count_is_no_obstacle() -> None:
    assert too_small(Need(num_cpus=400, runtime_s=10**6), [Offer(num_cpus=1), Offer()]) is None
    assert too_small(Need(num_cpus=400), []) is None
