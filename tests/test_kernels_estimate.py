"""The model of a launch: what must make it slower does, and what can't, doesn't."""

import dataclasses
import math

import pytest

from pawl.kernels.model import H100, launch_time, occupancy, perturbed

RESOURCES = {
    "registers": 64, "shared": 32768, "spills": 0, "warps": 4, "stages": 3, "wgmma": 4, "mma": 0, "async_copies": 8,
}  # fmt: skip


def access(kind="load", tensor=0, size=1 << 15, sharing=1.0, looped=True):
    return {
        "kind": kind, "tensor": tensor, "bytes": size, "useful": size, "first": size, "sharing": sharing,
        "looped": looped,
    }  # fmt: skip


def launch(programs=4096, flops=0.0, accesses=None, sizes=None, device=H100, heaviest=1.0, tiles=None, **resources):
    counts = {
        "accesses": accesses or [access(size=64)], "dots": {"fp16": flops}, "operations": 0.0, "trips": 8.0,
        "heaviest": heaviest, "tiles": tiles or {},
    }  # fmt: skip
    return launch_time("k", [programs, 1, 1], counts, RESOURCES | resources, sizes or {0: 1 << 30}, device)


@pytest.mark.parametrize(
    ("change", "blocks"),
    [({}, 6), ({"shared": 100_000}, 2), ({"registers": 255, "warps": 8}, 1), ({"shared": 0, "registers": 16}, 16)],
)
def test_occupancy_is_set_by_the_scarcest_resource(change, blocks):
    assert occupancy(RESOURCES | change, H100) == blocks


def test_one_block_more_than_fits_costs_a_whole_block_and_less_where_several_share():
    large = {"shared": 150_000, "flops": 1e9}
    full, over = launch(programs=132, **large), launch(programs=133, **large)
    assert full.bound == "tensor"
    assert over.time_us > 1.8 * full.time_us
    slots = 132 * occupancy(RESOURCES, H100)
    many, one_more = launch(programs=slots, flops=1e9), launch(programs=slots + 1, flops=1e9)
    assert 1.1 * many.time_us < one_more.time_us < 1.4 * many.time_us


def test_one_heavy_program_ends_last():
    assert launch(programs=132, flops=1e9, heaviest=2.0).time_us > 1.6 * launch(programs=132, flops=1e9).time_us
    many = launch(programs=132 * 300, flops=1e9)
    assert launch(programs=132 * 300, flops=1e9, heaviest=2.0).time_us < 1.05 * many.time_us


def test_products_without_wgmma_take_longer():
    assert launch(flops=1e9, wgmma=0, mma=4).time_us > 1.4 * launch(flops=1e9).time_us
    assert launch(flops=1e9, wgmma=0, mma=0).time_us > 10 * launch(flops=1e9).time_us


def test_narrow_tiles_starve_wgmma():
    wide = launch(flops=1e9, tiles={"fp16": (128, 128, 64)})
    assert launch(flops=1e9, tiles={"fp16": (128, 32, 64)}).time_us > 1.5 * wide.time_us


def test_spills_and_uncoalesced_loads_cost_traffic():
    plain = launch(accesses=[access()])
    assert launch(accesses=[access()], spills=256).time_us > plain.time_us
    assert launch(accesses=[access(size=1 << 17)]).time_us > 2 * plain.time_us


def test_atomics_cost_more_than_stores():
    small = {0: 1 << 20, 1: 1 << 20}
    store, atomic = (
        launch(accesses=[access(), access(kind=kind, tensor=1)], sizes=small) for kind in ("store", "atomic")
    )
    assert store.bound == "l2"
    assert atomic.time_us > 1.3 * store.time_us


def test_what_programs_share_is_fetched_once():
    own, shared = launch(accesses=[access()]), launch(accesses=[access(sharing=0.01)])
    assert own.bound == "memory"
    assert shared.time_us < own.time_us


def test_what_every_program_loads_stays_in_l1_unless_it_is_copied_past_it():
    row = access(tensor=1, size=1 << 13, sharing=0.004, looped=False)
    sizes = {0: 1 << 30, 1: 1 << 13}
    alone, beside = launch(accesses=[access()], sizes=sizes), launch(accesses=[access(), row], sizes=sizes)
    assert beside.time_us < 1.05 * alone.time_us
    copied = launch(accesses=[access(), row | {"looped": True, "bytes": 1 << 17}], sizes=sizes, shared=0)
    assert copied.time_us > 1.5 * alone.time_us


def test_more_stages_in_flight_hide_more_latency():
    slow = launch(accesses=[access(size=1 << 13, sharing=0.01)], stages=2, shared=200_000)
    fast = launch(accesses=[access(size=1 << 13, sharing=0.01)], stages=5, shared=200_000)
    assert slow.bound == "latency"
    assert fast.time_us < slow.time_us


def test_a_launch_takes_at_least_its_start_and_says_what_its_time_is_made_of():
    for made in (launch(programs=1), launch(flops=1e9), launch(accesses=[access()]), launch(flops=1e8, wgmma=0)):
        assert made.time_us >= H100.launch_seconds * 1e6
        assert math.isclose(sum(made.breakdown_us.values()), made.time_us)
        assert made.bound in made.breakdown_us
        assert made.host_us > 0


def test_perturbed_devices_repeat_by_seed_and_stay_near():
    assert perturbed(H100, 1) == perturbed(H100, 1) != perturbed(H100, 2)
    for seed in range(20):
        moved = dataclasses.asdict(perturbed(H100, seed))
        for name, value in dataclasses.asdict(H100).items():
            if isinstance(value, float):
                assert 0.6 * value <= moved[name] <= 1.4 * value
