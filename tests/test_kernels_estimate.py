"""The device model: what must make a launch slower does, and what can't, doesn't."""

import dataclasses

import pytest

from pawl.kernels import H100, perturbed
from pawl.kernels.model.estimate import estimate_launch, estimate_operator, occupancy

RESOURCES = {
    "registers": 64, "shared": 32768, "spills": 0, "warps": 4, "stages": 3, "wgmma": 4, "mma": 0, "async_copies": 8,
}  # fmt: skip


def access(kind="load", tensor=0, size=1 << 15, sharing=1.0, looped=True):
    return {"kind": kind, "tensor": tensor, "bytes": size, "useful": size, "sharing": sharing, "looped": looped}


def launch(programs=4096, flops=0.0, accesses=None, sizes=None, device=H100, **resources):
    counts = {"accesses": accesses or [access(size=64)], "dots": {"fp16": flops}, "operations": 0.0, "trips": 8.0}
    return estimate_launch("k", [programs, 1, 1], counts, RESOURCES | resources, sizes or {0: 1 << 30}, device)


@pytest.mark.parametrize(
    ("change", "blocks"),
    [({}, 6), ({"shared": 100_000}, 2), ({"registers": 255, "warps": 8}, 1), ({"shared": 0, "registers": 16}, 16)],
)
def test_occupancy_is_set_by_the_scarcest_resource(change, blocks):
    assert occupancy(RESOURCES | change, H100) == blocks


def test_one_block_more_than_a_wave_costs_a_whole_wave():
    slots = 132 * occupancy(RESOURCES, H100)
    full, over = launch(programs=slots, flops=1e9), launch(programs=slots + 1, flops=1e9)
    assert full.bound == "tensor"
    assert over.time_us > 1.8 * full.time_us


def test_products_without_wgmma_take_longer():
    assert launch(flops=1e9, wgmma=0, mma=4).time_us > 1.4 * launch(flops=1e9).time_us
    assert launch(flops=1e9, wgmma=0, mma=0).time_us > 10 * launch(flops=1e9).time_us


def test_spills_and_uncoalesced_loads_cost_traffic():
    plain = launch(accesses=[access()])
    assert launch(accesses=[access()], spills=256).time_us > plain.time_us
    assert launch(accesses=[access(size=1 << 17)]).time_us > 2 * plain.time_us


def test_what_programs_share_is_fetched_once():
    own, shared = launch(accesses=[access()]), launch(accesses=[access(sharing=0.01)])
    assert own.bound == "memory"
    assert shared.time_us < own.time_us


def test_more_stages_in_flight_hide_more_latency():
    slow = launch(accesses=[access(size=1 << 13, sharing=0.01)], stages=2, shared=200_000)
    fast = launch(accesses=[access(size=1 << 13, sharing=0.01)], stages=5, shared=200_000)
    assert slow.bound == "latency"
    assert fast.time_us < slow.time_us


def test_a_launch_and_an_operator_never_take_less_than_a_launch():
    assert launch(programs=1).time_us > 3.0
    assert estimate_operator({"name": "cat", "bytes": 0, "flops": 0, "dtype": "float32"}, H100).time_us == 3.0


def test_perturbed_devices_repeat_by_seed_and_stay_near():
    assert perturbed(H100, 1) == perturbed(H100, 1) != perturbed(H100, 2)
    for seed in range(20):
        moved = dataclasses.asdict(perturbed(H100, seed))
        for name, value in dataclasses.asdict(H100).items():
            if isinstance(value, float):
                assert 0.6 * value <= moved[name] <= 1.4 * value
