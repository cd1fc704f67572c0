"""Steps are packed into what a worker has."""

from __future__ import annotations

import time

import pytest

from engine.resources import Need, Offer
from workers.packing import Packing, find_gpus

GIB = 1024**3


def key(**need: int) -> str:
    return "+".join(("script", *Need(**need).words))


def test_a_step_fits_until_what_it_needs_is_taken() -> None:
    packing = Packing(Offer(num_cpus=4, memory_bytes=8 * GIB))
    packing.take(1, key(num_cpus=3, memory_bytes=6 * GIB))
    assert packing.fits(key(num_cpus=1, memory_bytes=2 * GIB))
    assert not packing.fits(key(num_cpus=2))
    assert not packing.fits(key(memory_bytes=3 * GIB))
    packing.give_back(1)
    assert packing.fits(key(num_cpus=4, memory_bytes=8 * GIB))


def test_a_step_that_does_not_say_occupies_a_processor() -> None:
    packing = Packing(Offer(num_cpus=2))
    packing.take(1, "script")
    packing.take(2, "script")
    assert not packing.fits("script")


def test_each_step_gets_gpus_of_its_own_and_gives_them_back() -> None:
    packing = Packing(Offer(num_gpus=3), ("0", "2", "5"))
    packing.take(1, key(num_gpus=2))
    packing.take(2, key(num_gpus=1))
    assert packing.gpus_of(1) == ("0", "2")
    assert packing.gpus_of(2) == ("5",)
    assert not packing.fits(key(num_gpus=1)) and packing.fits("script")
    packing.give_back(1)
    packing.take(3, key(num_gpus=1))
    assert packing.gpus_of(3) == ("0",)


def test_a_step_on_several_nodes_has_them_to_itself() -> None:
    packing = Packing(Offer(num_cpus=8, num_nodes=2))
    packing.take(1, "script")
    assert packing.fits(key(num_nodes=2))
    packing.take(2, key(num_nodes=2))
    assert not packing.fits("script") and not packing.fits(key(num_nodes=2))


def test_a_step_must_end_before_the_allocation_does() -> None:
    packing = Packing(Offer(num_cpus=2), ends_at=time.time() + 600)
    assert packing.fits(key(runtime_s=500)) and packing.could_fit(key(runtime_s=500))
    assert not packing.fits(key(runtime_s=700)) and not packing.could_fit(key(runtime_s=700))


def test_what_could_fit_does_not_depend_on_what_runs() -> None:
    packing = Packing(Offer(num_cpus=4))
    packing.take(1, key(num_cpus=4))
    assert packing.could_fit(key(num_cpus=4)) and not packing.could_fit(key(num_cpus=5))


def test_those_that_need_most_come_first() -> None:
    packing = Packing(Offer(num_cpus=8, memory_bytes=64 * GIB, num_gpus=2), ("0", "1"))
    sets = {
        key(num_cpus=1): 1,
        key(num_gpus=1): 2,
        key(runtime_s=60): 3,
        key(memory_bytes=GIB): 4,
        key(num_cpus=9): 5,
    }
    assert packing.in_order(sets) == [2, 3, 4, 1]


@pytest.mark.parametrize(
    ("visible", "count", "gpus"),
    [("3,5", None, ("3", "5")), ("3,5", 1, ("3",)), ("", 2, ("0", "1")), ("", None, ())],
)
def test_the_worker_hands_out_the_gpus_that_it_was_given(monkeypatch, visible, count, gpus) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert find_gpus(count) == gpus
