"""Measured times: what the parent reckons from raw samples, what it refuses, and what no submission can move.

The parts that need a device are marked `gpu`; the host stands in for it where processes and messages are what matters.
"""

import asyncio
import ctypes
import json
import math
import socket
import statistics as plain
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from pawl.cli.main import app
from pawl.core import ConfigurationError
from pawl.kernels import Report, Status, TriMul, Verifier, find_problem, trimul_variant
from pawl.kernels.loaders import load_problem
from pawl.kernels.measure import (
    BaselineFailed,
    ClockReading,
    Counts,
    MeasureSettings,
    NoDevice,
    Refusal,
    Standard,
    Tolerances,
    driver,
    measure,
    open_accelerator,
    rules,
    take_standards,
    why_no_device,
)
from pawl.kernels.measure.accelerator import NoRoom, minor_of, parse_clocks
from pawl.kernels.measure.judging import Samples, judge, repeated, suspicious
from pawl.kernels.measure.layout import ALIGNMENT, GUARD, POISON, damage, lay_out, raw_bytes
from pawl.kernels.measure.measuring import as_array, grade_output
from pawl.kernels.measure.messages import Broken, Loaded, Ran, Run, read, receive, run_message, send
from pawl.kernels.measure.schedule import Purpose, draw_schedule
from pawl.kernels.measure.session import Refused, TimedProcess
from pawl.kernels.measure.statistics import NotATime, Summary, geometric_mean, summarise, without_overhead
from pawl.kernels.measured import DeviceFailed, measured_reports
from pawl.kernels.problem import TensorSpec
from pawl.kernels.report import FailureClass
from pawl.kernels.summary import summarise as summarise_reports
from pawl.safety.sandbox import Limits, default_sandbox

from .measure_fixtures import (
    BODY,
    CUDA_CHEATS,
    CUDA_HONEST,
    HOST_CHEATS,
    HOST_HONEST,
    HOST_LATE,
    HOST_SETTINGS,
    WORK,
    HostAccelerator,
)

LOADERS_DATA = Path(__file__).parent / "loaders_data"
FEW = settings(max_examples=60, deadline=None)  # SciPy is loaded in the first of them
TIMES = st.floats(min_value=0.1, max_value=1e7)
MANY = st.lists(TIMES, min_size=6, max_size=40)
VARIANT = trimul_variant(12, 2, 16, 16, mask=True)
OTHER = trimul_variant(9, 1, 32, 16, mask=False)
STANDARD = Standard(
    variant=VARIANT,
    device="NVIDIA H100 80GB HBM3",
    empty=Summary(100.0, 99.0, 101.0, 9),
    baseline=Summary(2500.0, 2490.0, 2510.0, 9),
    floor_us=220.0,
)


# -- statistics ------------------------------------------------------------------------------------------------------


@FEW
@given(MANY)
def test_an_interval_holds_its_median_and_is_made_of_samples(samples: list[float]) -> None:
    found = summarise(samples)
    assert found.low <= found.median <= found.high
    assert {found.low, found.high} <= set(samples)
    assert found.median == plain.median(samples)
    assert found.count == len(samples)


@FEW
@given(MANY, st.randoms())
def test_the_order_of_samples_doesnt_matter(samples: list[float], order) -> None:
    shuffled = list(samples)
    order.shuffle(shuffled)
    assert summarise(shuffled) == summarise(samples)


def test_intervals_hold_the_true_median_as_often_as_they_say() -> None:
    draw = np.random.default_rng(3)
    held = 0
    for _ in range(250):
        found = summarise(list(draw.lognormal(5.0, 0.5, 14)))
        held += found.low <= math.exp(5.0) <= found.high
    assert held / 250 > 0.93


@FEW
@given(MANY, st.sampled_from([math.nan, math.inf, 0.0, -1.0]), st.integers(0, 39))
def test_one_sample_that_is_no_time_spoils_all(samples: list[float], bad: float, where: int) -> None:
    samples.insert(where % (len(samples) + 1), bad)
    with pytest.raises(NotATime):
        summarise(samples)
    with pytest.raises(NotATime):
        geometric_mean(samples)


@FEW
@given(st.lists(TIMES, max_size=5))
def test_too_few_samples_make_no_interval(samples: list[float]) -> None:
    with pytest.raises(ValueError, match="at least 6"):
        summarise(samples)


@FEW
@given(MANY, MANY)
def test_overhead_is_taken_off_and_its_doubt_is_kept(whole: list[float], empty: list[float]) -> None:
    a, b = summarise(whole), summarise(empty)
    if a.median <= b.median:
        with pytest.raises(NotATime):
            without_overhead(a, b)
        return
    found = without_overhead(a, b)
    assert found.median == a.median - b.median
    assert found.low <= found.median <= found.high
    assert found.width >= a.width - 1e-6 or found.low == 0.0


@FEW
@given(st.lists(TIMES, min_size=1, max_size=12), st.floats(0.01, 100))
def test_a_geometric_mean_lies_within_and_scales(times: list[float], factor: float) -> None:
    found = geometric_mean(times)
    assert min(times) * (1 - 1e-9) <= found <= max(times) * (1 + 1e-9)
    assert geometric_mean([factor * time for time in times]) == pytest.approx(factor * found)


# -- rules -----------------------------------------------------------------------------------------------------------


def steady(median: float) -> Summary:
    return Summary(median, median * 0.99, median * 1.01, 12)


@FEW
@given(st.floats(50, 1e6), st.floats(0.92, 1.08), st.floats(0.92, 1.08), st.integers(1, 200))
def test_clocks_that_are_within_a_tenth_agree(median: float, events: float, span: float, kernels: int) -> None:
    assert rules.disagreement(steady(median), median * events, median * span, kernels, Tolerances()) is None


@FEW
@given(st.floats(500, 1e6), st.floats(0.0, 0.8))
def test_time_hidden_from_events_or_profiler_is_seen(median: float, share: float) -> None:
    assert rules.disagreement(steady(median), share * median, median, 1, Tolerances())
    assert rules.disagreement(steady(median), median, share * median, 1, Tolerances())


@FEW
@given(st.floats(500, 1e6), st.floats(1.2, 1e3))
def test_time_that_the_hosts_clock_cant_hold_is_seen(median: float, share: float) -> None:
    assert rules.disagreement(steady(median), share * median, None, 0, Tolerances())
    assert rules.disagreement(steady(median), median, 1.3 * share * median, 1, Tolerances())


def test_gaps_that_profiling_makes_between_many_launches_are_allowed() -> None:
    assert rules.disagreement(steady(1000.0), 1000.0, 1900.0, 250, Tolerances()) is None
    assert rules.disagreement(steady(1000.0), 1000.0, 1900.0, 25, Tolerances())


@FEW
@given(st.floats(1e9, 1e15), st.floats(1e3, 1e11))
def test_no_devices_floor_is_above_the_unknown_ones(flops: float, moved: float) -> None:
    floors = [rules.floor_us(flops, moved, rules.peak_of(name)) for name in ("NVIDIA H100 PCIe", "NVIDIA A100", "X")]
    assert floors[0] >= floors[2] > 0
    assert floors[1] >= floors[2]


def test_the_floor_of_trimul_on_an_h200_is_its_arithmetic_or_traffic() -> None:
    problem, peak = TriMul(), rules.peak_of("NVIDIA H200")
    first = problem.benchmark()[0]
    by_hand = max(problem.flops(first) / 989e12, problem.least_bytes(first) / 4.8e12) * 1e6
    assert rules.floor_us(problem.flops(first), problem.least_bytes(first), peak) == pytest.approx(by_hand)
    assert rules.peak_of("NVIDIA H200") != rules.peak_of("NVIDIA GH200 480GB") != rules.peak_of("NVIDIA B200")


def honest(median: float, **other) -> Samples:
    jitter = [0.99, 1.0, 1.01, 1.0, 0.995, 1.005, 1.0, 1.002]
    windows = [100.0 + median * each for each in jitter]
    values = {"events": [median * each for each in jitter], "spans": [median] * 2, "kernels": [6, 6]}
    return Samples(windows=windows, clocks=[ClockReading(1980, 3201, False)] * 8, **{**values, **other})


def test_an_honest_shape_is_timed_by_the_parents_clock() -> None:
    measured, reasons = judge(honest(1200.0), STANDARD, Tolerances())
    assert not reasons
    assert measured is not None
    assert measured.median_us == pytest.approx(1200.0)
    assert measured.host_us == pytest.approx(1300.0)
    assert measured.interval_us[0] < 1200 < measured.interval_us[1]
    assert measured.clocks.multiprocessor_mhz == (1980, 1980)
    assert measured.speedup == pytest.approx(2500 / 1200)


@pytest.mark.parametrize(
    ("samples", "code"),
    [
        (honest(1200.0, events=[12.0] * 8), Refusal.CLOCKS_DISAGREE),
        (honest(1200.0, events=[0.0] * 8), Refusal.CLOCKS_DISAGREE),
        (honest(1200.0, spans=[300.0, 300.0]), Refusal.CLOCKS_DISAGREE),
        (honest(1200.0, kernels=[6, 0]), Refusal.NO_KERNEL),
        (honest(150.0), FailureClass.IMPOSSIBLE),
        (Samples(windows=[90.0] * 8, events=[1.0] * 8), Refusal.NOT_A_TIME),
        (Samples(windows=[math.nan] * 8, events=[1.0] * 8), Refusal.NOT_A_TIME),
        (Samples(windows=[500.0] * 4, events=[400.0] * 4), Refusal.UNSTEADY),
        (
            Samples(windows=[600.0, 2000.0] * 5, events=[1200.0] * 10, spans=[1200.0], kernels=[1]),
            Refusal.UNSTEADY,
        ),
    ],
)
def test_every_way_to_a_false_time_has_its_reason(samples: Samples, code: Refusal) -> None:
    _, reasons = judge(samples, STANDARD, Tolerances())
    assert code in {reason.code for reason in reasons}


def test_one_impossible_shape_is_refused_before_any_mean() -> None:
    """A single time near zero would pull the geometric mean of seven shapes down at will."""
    measured, reasons = judge(honest(0.5), STANDARD, Tolerances())
    assert measured is not None
    assert [reason.code for reason in reasons if reason.code is FailureClass.IMPOSSIBLE]


def test_what_is_suspicious_is_taken_again_and_must_come_again() -> None:
    def time(median: float):
        measured, reasons = judge(honest(median), STANDARD, Tolerances())
        assert measured is not None
        assert not reasons
        return measured

    assert suspicious(time(800.0), Tolerances())  # three times the baseline
    assert suspicious(time(400.0), Tolerances())  # below two floors
    assert not suspicious(time(1200.0), Tolerances())
    assert repeated(time(800.0), time(840.0), Tolerances()) is None
    reason = repeated(time(800.0), time(900.0), Tolerances())
    assert reason is not None
    assert reason.code is Refusal.NOT_REPEATABLE


# -- order, places, messages -----------------------------------------------------------------------------------------


@FEW
@given(st.integers(0, 2**62), st.integers(1, 7), st.integers(0, 3), st.integers(6, 12), st.integers(0, 4))
def test_a_schedule_gives_every_shape_its_calls_and_no_two_the_same_inputs(
    seed: int, shapes: int, warm_ups: int, timed: int, extra: int
) -> None:
    counts = Counts(warm_ups=warm_ups, timed=timed, extra=extra, profiled=2)
    calls = draw_schedule(seed, shapes, counts)
    assert calls == draw_schedule(seed, shapes, counts)
    assert len({call.seed for call in calls}) == len(calls)
    assert [call.number for call in calls] == list(range(len(calls)))
    for shape in range(shapes):
        purposes = [call.purpose for call in calls if call.shape == shape]
        assert purposes[:warm_ups] == [Purpose.WARM_UP] * warm_ups
        assert Purpose.WARM_UP not in purposes[warm_ups:]
        assert timed <= purposes.count(Purpose.TIMED) <= timed + extra
        assert purposes.count(Purpose.PROFILED) == 2
        assert not next(call.again for call in calls if call.shape == shape)


def test_order_and_number_of_calls_and_repeated_pointers_differ_by_seed() -> None:
    drawn = [draw_schedule(seed, 3, Counts()) for seed in range(40)]
    assert len({tuple(call.shape for call in calls) for calls in drawn}) == 40
    assert len({len(calls) for calls in drawn}) > 5
    again = [call.again for calls in drawn for call in calls]
    assert 0.15 < sum(again) / len(again) < 0.3


SPECS = st.dictionaries(
    st.text("abc", min_size=1, max_size=3),
    st.builds(
        TensorSpec,
        shape=st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple),
        dtype=st.sampled_from(["float32", "float16", "bfloat16", "int64", "bool"]),
    ),
    min_size=1,
    max_size=5,
)
OUTPUT = TensorSpec(shape=(5, 3), dtype="float32")


@FEW
@given(SPECS, st.integers(0, 2**62))
def test_tensors_are_aligned_and_apart(specs, seed: int) -> None:
    layout = lay_out(specs, OUTPUT, seed)
    places = sorted([*layout.inputs.values(), layout.output], key=lambda place: place.offset)
    end = 0
    for place in places:
        assert place.offset % ALIGNMENT == 0
        assert place.offset - end >= GUARD
        end = place.offset + place.bytes
    assert layout.bytes - end >= GUARD


def drawn(specs, seed: int):
    draw = np.random.default_rng(seed)
    layout = lay_out(specs, OUTPUT, seed)
    inputs = {name: draw.integers(0, 256, place.bytes, np.uint8) for name, place in layout.inputs.items()}
    after = np.full(layout.bytes, POISON, np.uint8)
    for name, place in layout.inputs.items():
        after[place.offset : place.offset + place.bytes] = raw_bytes(name, inputs[name], place)
    after[layout.output.offset : layout.output.offset + layout.output.bytes] = 7
    return layout, inputs, after


@FEW
@given(SPECS, st.integers(0, 2**62), st.integers(0, 1 << 40), st.integers(1, 255))
def test_any_byte_changed_outside_of_the_output_is_told(specs, seed: int, at: int, mask: int) -> None:
    layout, inputs, after = drawn(specs, seed)
    assert damage(layout, inputs, after) is None
    at %= layout.bytes
    after[at] ^= mask
    found = damage(layout, inputs, after)
    in_output = layout.output.offset <= at < layout.output.offset + layout.output.bytes
    in_input = any(place.offset <= at < place.offset + place.bytes for place in layout.inputs.values())
    assert (found is None) == in_output
    assert found is None or found[0] == in_input


def test_an_unknown_type_and_a_size_that_isnt_the_specs_are_told() -> None:
    with pytest.raises(ConfigurationError, match="complex64"):
        lay_out({"x": TensorSpec(shape=(2,), dtype="complex64")}, OUTPUT, 0)
    layout = lay_out({"x": TensorSpec(shape=(4,), dtype="float32")}, OUTPUT, 0)
    with pytest.raises(ConfigurationError, match="drew 8 bytes"):
        raw_bytes("x", np.zeros(2, np.float32), layout.inputs["x"])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@FEW
@given(JSON | st.binary(max_size=40))
def test_whatever_a_child_answers_is_an_answer_or_broken(value) -> None:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    for model in (Loaded, Ran):
        try:
            found = read(model, body)
        except Broken:
            continue
        assert found.model_dump(mode="json") == json.loads(body) or hasattr(found, "error")


@pytest.mark.parametrize(
    "forged",
    [
        {"nonce": "a", "events_us": -1.0, "span_us": None, "kernels": None},
        {"nonce": "a", "events_us": "1", "span_us": None, "kernels": None},
        {"nonce": "a", "events_us": 1.0, "span_us": None, "kernels": -1},
        {"nonce": "a", "events_us": 1.0, "span_us": None, "kernels": None, "median_us": 1.0},
        {"nonce": "a" * 100, "events_us": 1.0, "span_us": None, "kernels": None},
        {"loaded": False},
    ],
)
def test_an_answer_with_more_or_other_than_is_asked_is_broken(forged) -> None:
    with pytest.raises(Broken):
        read(Ran if "nonce" in forged else Loaded, json.dumps(forged).encode())


@FEW
@given(SPECS, st.integers(0, 2**62), st.booleans(), st.booleans())
def test_a_call_comes_through_a_socket_as_it_was(specs, seed: int, empty: bool, profile: bool) -> None:
    message = run_message(
        lay_out(specs, OUTPUT, seed), {"tuple": []}, nonce="n", slot=3, buffer=1 << 20, empty=empty, profile=profile
    )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send(ours, message)
        size = int.from_bytes(theirs.recv(8), "little")
        assert Run.model_validate_json(theirs.recv(size)) == message


def test_a_closed_end_a_long_answer_and_silence_are_told_apart() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        with pytest.raises(Broken, match="ended"):
            receive(ours, Loaded)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send((1 << 40).to_bytes(8, "little"))
        with pytest.raises(Broken, match="at most"):
            receive(ours, Loaded)
        ours.settimeout(0.05)
        with pytest.raises(TimeoutError):
            receive(ours, Loaded)


@pytest.mark.parametrize(
    ("told", "reading"),
    [
        ("1980, 2619, 0x0000000000000000\n", ClockReading(1980, 2619, False)),
        ("1410, 2619, 0x0000000000000004\n", ClockReading(1410, 2619, True)),
        ("345, 2619, 0x0000000000000001\n", ClockReading(345, 2619, False)),
        ("[N/A], 2619, [N/A]\n", ClockReading(0, 0, False)),
        ("", ClockReading(0, 0, False)),
    ],
)
def test_clocks_are_read_and_throttling_is_told_from_idling(told: str, reading: ClockReading) -> None:
    assert parse_clocks(told) == reading


def test_the_drivers_structures_have_the_sizes_of_its_header() -> None:
    assert ctypes.sizeof(driver._Properties) == 32
    assert ctypes.sizeof(driver._Access) == 12
    assert driver._Properties.location.offset == 8
    assert driver._Properties.flags.offset == 24


def test_the_device_file_is_that_of_the_gpu_that_is_timed() -> None:
    told = [
        f"Model: \t\t NVIDIA H200\nGPU UUID: \t GPU-{uuid}\nBus Location: \t 0000:1b:00.0\nDevice Minor: \t {minor}\n"
        for uuid, minor in (("11-22", 5), ("33-44", 2))
    ]
    assert minor_of("33-44", told) == 2
    assert minor_of("11-22", told) == 5
    assert minor_of("55-66", [*told, "GPU UUID: GPU-55-66\n"]) == 0


# -- processes, on the host ------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def standards():
    return await take_standards(
        [VARIANT, OTHER],
        TriMul(),
        default_sandbox(),
        accelerator=HostAccelerator(),
        baseline=HOST_HONEST,
        settings=HOST_SETTINGS,
        seed=5,
    )


async def on_host(source: str, standards, **other):
    given = {"settings": HOST_SETTINGS, "accelerator": HostAccelerator(), "standards": standards, "seed": 11}
    return await measure(source, [VARIANT, OTHER], TriMul(), default_sandbox(), **{**given, **other})


async def test_a_call_gives_the_parent_the_output_and_takes_the_buffer_back() -> None:
    problem, limits = TriMul(), Limits(memory_bytes=0, wall_seconds=200, cpu_seconds=100, processes=200)
    device = HostAccelerator()
    layout = lay_out(problem.specs(VARIANT), problem.output(VARIANT), 1)

    def calls(process: TimedProcess):
        process.load("import task\n" + BODY + "custom_kernel = task.same(trimul)\n", {"task": "same = lambda it: it"})
        for seed, slot in ((1, 0), (2, 0), (3, 1)):
            inputs = problem.inputs(VARIANT, seed)
            taken = process.call(layout, inputs, problem.arguments(VARIANT), slot=slot, empty=False, profile=slot == 1)
            output = as_array(taken.output, problem.output(VARIANT))
            assert grade_output(problem, VARIANT, inputs, output) is None
            assert grade_output(problem, VARIANT, problem.inputs(VARIANT, seed + 1), output) is not None
            assert damage(layout, inputs, taken.buffer.read(0, layout.bytes)) is None
            assert taken.window_us > taken.told.events_us > 0
            assert taken.told.kernels is None if slot == 0 else (taken.told.kernels or 0) > 5
            process.release(taken, slot)
        taken = process.call(layout, inputs, problem.arguments(VARIANT), slot=4, empty=True, profile=False)
        assert not taken.output.any()
        process.release(taken, 4)
        with pytest.raises(Refused, match="line 1"):
            process.load("def custom_kernel(:", {})

    async with TimedProcess(default_sandbox(), device, call_seconds=60, limits=limits) as process:
        await asyncio.to_thread(calls, process)


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
async def test_an_honest_submission_is_timed_and_the_figures_are_the_parents(standards) -> None:
    report = await on_host(HOST_HONEST, standards)
    assert report.accepted, report.reasons
    assert report.basis == "measured"
    said = report.time()
    assert said["device"] == HostAccelerator.name
    assert set(said["per_shape"]) == {str(VARIANT), str(OTHER)}
    for shape in report.shapes:
        assert shape.samples >= 7
        assert WORK * 0.9e6 < shape.median_us < WORK * 5e6
        assert shape.kernels > 5
        assert shape.overhead_us < shape.host_us
        assert shape.floor_us < shape.median_us
    assert json.loads(json.dumps(said)) == said


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(HOST_CHEATS))
@pytest.mark.asyncio(loop_scope="module")
async def test_a_cheat_is_refused_with_its_reason(name: str, standards) -> None:
    source, codes = HOST_CHEATS[name]
    limited = HOST_SETTINGS.model_copy(update={"call_seconds": 6.0})
    report = await on_host(BODY + source if "parse" not in name else source, standards, settings=limited)
    assert not report.accepted
    assert {str(reason.code) for reason in report.reasons} <= codes, report.reasons


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
async def test_an_output_that_changes_after_its_call_is_told_from_a_wrong_one(standards) -> None:
    def slow_grade(*given) -> None:
        time.sleep(0.5)  # as long as a reference at a large shape takes, and longer

    no_warm_ups = HOST_SETTINGS.model_copy(update={"counts": Counts(warm_ups=0, timed=6, extra=0, profiled=1)})
    report = await on_host(BODY + HOST_LATE, standards, settings=no_warm_ups, grade=slow_grade)
    assert [reason.code for reason in report.reasons] == [Refusal.LATE_WRITE]


class FullDevice(HostAccelerator):
    """Has room until the submission's process comes."""

    def allocate(self, size: int):
        raise NoRoom(f"{size} bytes")


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
async def test_a_submission_that_takes_all_of_the_devices_memory_is_refused_for_it(standards) -> None:
    report = await on_host(HOST_HONEST, standards, accelerator=FullDevice())
    assert [reason.code for reason in report.reasons] == [FailureClass.MEMORY]


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
async def test_a_baseline_that_fails_is_no_verdict_on_anybody() -> None:
    with pytest.raises(BaselineFailed, match="defines no function"):
        await take_standards(
            [VARIANT], TriMul(), default_sandbox(),
            accelerator=HostAccelerator(), baseline="x = 1\n", settings=HOST_SETTINGS,
        )  # fmt: skip


@pytest.mark.asyncio(loop_scope="module")
async def test_variants_of_other_problems_and_standards_of_others_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="standards"):
        await on_host(HOST_HONEST, [STANDARD])
    with pytest.raises(ConfigurationError, match="variant"):
        await take_standards([], TriMul(), default_sandbox(), accelerator=HostAccelerator())


@pytest.mark.skipif(not why_no_device(), reason="there is a CUDA device")
@pytest.mark.asyncio(loop_scope="module")
async def test_without_a_device_nothing_is_measured_and_the_reason_is_told() -> None:
    with pytest.raises(NoDevice, match="estimated"):
        await measure(HOST_HONEST, [VARIANT], TriMul(), default_sandbox())


# -- reports of a verification, with times of a device ---------------------------------------------------------------

HOST_STANDARD = Standard(
    variant=VARIANT,
    device=HostAccelerator.name,
    empty=Summary(900.0, 800.0, 1000.0, 9),
    baseline=Summary(1e6 * WORK, 0.9e6 * WORK, 1.1e6 * WORK, 9),
    floor_us=0.5,
)
ESTIMATED = Report(
    status=Status.ACCEPTED,
    correctness=[
        {"variant": "n=4", "missed": 0, "relative_l2": 1e-4, "baseline_l2": None, "slope": 0.0, "inexact": None}
    ],
    time_us=50.0,
    interval_us=(40.0, 60.0),
    crude_us=45.0,
    perturbed_us=[49.0, 51.0],
    floor_us=1.0,
    device="H100",
)


async def reports_on_host(source: str, report: Report = ESTIMATED, **other) -> list[Report]:
    given = {"accelerator": HostAccelerator(), "settings": HOST_SETTINGS, "standards": [HOST_STANDARD]}
    return await measured_reports(source, [VARIANT], [report], TriMul(), default_sandbox(), **{**given, **other})


async def test_an_accepted_kernel_gets_the_devices_time_in_place_of_the_estimate() -> None:
    source = "from task import input_t\nfrom utils import set_seed\n" + HOST_HONEST  # as leaderboard files begin
    (report,) = await reports_on_host(source)
    assert report.accepted, report.reasons
    assert (report.basis, report.device, report.floor_us) == ("measured", HostAccelerator.name, 0.5)
    assert report.baseline_us == 1e6 * WORK
    assert (report.crude_us, report.perturbed_us) == (None, [])
    assert report.correctness == ESTIMATED.correctness
    said = json.loads(summarise_reports(TriMul(), [VARIANT], [report]).model_dump_json())
    assert (said["status"], said["time"]["basis"]) == ("accepted", "measured")
    assert said["time"]["device"] == HostAccelerator.name
    time_us, (low, high) = said["time"]["per_shape"][str(VARIANT)], said["time"]["interval_us"][str(VARIANT)]
    assert low <= time_us <= high
    assert WORK * 0.9e6 < time_us == pytest.approx(said["time"]["geomean_us"])
    assert said["time"]["floor_us"] == {str(VARIANT): 0.5}


async def test_what_the_measurement_refuses_is_rejected_with_its_code_and_has_no_time() -> None:
    source, codes = HOST_CHEATS["zeroes its input and returns zeros"]
    (report,) = await reports_on_host(BODY + source)
    assert not report.accepted
    assert {report.failure_class} == codes
    assert [reason.split(":")[0] for reason in report.reasons] == sorted(codes)
    assert (report.basis, report.device, report.time_us) == ("measured", HostAccelerator.name, None)
    said = summarise_reports(TriMul(), [VARIANT], [report])
    assert (said.status, said.time.geomean_us, said.time.per_shape) == (Status.REJECTED, None, {})


async def test_what_was_rejected_before_is_not_measured() -> None:
    wrong = ESTIMATED.model_copy(update={"status": Status.REJECTED, "failure_class": FailureClass.RACE})
    assert await reports_on_host("raise SystemExit", wrong, accelerator=FullDevice()) == [wrong]


@pytest.mark.parametrize("failure", [OSError("cuMemCreate: 999"), RuntimeError("CUDA error: unspecified launch")])
async def test_a_device_that_fails_is_no_verdict_on_anybody(failure: Exception) -> None:
    class Failing(HostAccelerator):
        def bundle(self):
            raise failure

    with pytest.raises(DeviceFailed, match="failed during the measurement"):
        await reports_on_host(HOST_HONEST, accelerator=Failing())


def test_rooms_for_the_output_may_be_written_and_no_other_input() -> None:
    specs = {"x": TensorSpec(shape=(4,), dtype="float32"), "out": TensorSpec(shape=(5, 3), dtype="float32")}
    layout, inputs, after = drawn(specs, 1)
    after[layout.inputs["out"].offset] ^= 1
    assert damage(layout, inputs, after, frozenset({"out"})) is None
    assert damage(layout, inputs, after) == (True, "1 of 60 bytes of the input out were changed")


def test_bfloat16_inputs_are_handed_out_as_the_problem_drew_them() -> None:
    layout = lay_out({"x": TensorSpec(shape=(3,), dtype="bfloat16")}, OUTPUT, 0)
    values = np.array([1.0, -2.5, 2.0**100], np.float32)
    assert raw_bytes("x", values, layout.inputs["x"]).view(np.uint16).tolist() == [0x3F80, 0xC020, 0x7180]


@pytest.mark.skipif(not why_no_device(), reason="there is a CUDA device")
def test_the_command_says_why_it_cant_measure_and_judges_nothing(tmp_path) -> None:
    file = tmp_path / "kernel.py"
    file.write_text("def custom_kernel(data):\n    return data\n")
    asked = ["kernel", "verify", str(file), "--problem", "softmax", "--home", str(tmp_path / "home")]
    done = CliRunner().invoke(app, [*asked, "--measured", "--json"])
    assert done.exit_code == 3
    assert why_no_device() in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "home" / "verifications").exists()


class InterpretingAccelerator(HostAccelerator):
    """Runs Triton's kernels too, in Triton's interpreter."""

    def bundle(self):
        interpreted = b'import os\nos.environ["TRITON_INTERPRET"] = "1"\n'
        return {name: interpreted + text for name, text in super().bundle().items()}


@pytest.mark.slow
async def test_a_verifier_measures_what_it_accepts_and_looks_the_time_up_afterwards(tmp_path) -> None:
    problem = find_problem("softmax")
    small = min(problem.correctness(1), key=problem.least_bytes)
    verifier = Verifier(default_sandbox(), tmp_path)

    async def ask(source: str) -> Report:
        return await verifier.measure(source, small, accelerator=InterpretingAccelerator(), settings=HOST_SETTINGS)

    try:
        report = await ask(problem.seed_source())
        assert report.accepted, report.reasons
        assert (report.basis, report.device) == ("measured", HostAccelerator.name)
        assert report.interval_us is not None
        assert report.interval_us[0] <= (report.time_us or 0.0) <= report.interval_us[1]
        assert report.launches
        assert await ask(problem.seed_source()) == report
        assert (await verifier.verify(problem.seed_source(), small)).basis == "estimated"
        wrong = await ask("def custom_kernel(data):\n    return data.softmax(-1)\n")
        assert (wrong.failure_class, wrong.basis) == (FailureClass.NO_TRITON_KERNEL, "estimated")
    finally:
        await verifier.close()


@pytest.mark.slow
async def test_a_model_of_a_foreign_problem_is_completed_and_measured() -> None:
    problem = load_problem(LOADERS_DATA / "wide_mlp.py")
    (small, *_) = problem.correctness()
    standard = replace(HOST_STANDARD, variant=small)
    slow = "import time\nclass ModelNew(Model):\n    def forward(self, *given):\n"
    slow += f"        time.sleep({WORK})\n        return super().forward(*given)\n"
    reports = await measured_reports(
        problem.source.reference + "\n" + slow, [small], [ESTIMATED], problem, default_sandbox(),
        accelerator=HostAccelerator(), settings=HOST_SETTINGS, standards=[standard],
    )  # fmt: skip
    assert [(report.basis, report.reasons) for report in reports] == [("measured", [])]
    assert (reports[0].time_us or 0.0) > WORK * 0.9e6


# -- on a device -----------------------------------------------------------------------------------------------------

without_device = pytest.mark.skipif(bool(why_no_device()), reason=why_no_device() or "there is a device")
DEVICE_SETTINGS = MeasureSettings(counts=Counts(warm_ups=2, timed=8, extra=2, profiled=1))
LARGE = trimul_variant(256, 1, 128, 128, mask=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def device_standards():
    return await take_standards(
        [LARGE], TriMul(), default_sandbox(), baseline=CUDA_HONEST["plain torch"], settings=DEVICE_SETTINGS
    )


@pytest.mark.gpu
@without_device
@pytest.mark.parametrize("name", sorted(CUDA_HONEST))
@pytest.mark.asyncio(loop_scope="module")
async def test_on_a_device_an_honest_submission_is_timed(name: str, device_standards) -> None:
    report = await measure(
        CUDA_HONEST[name], [LARGE], TriMul(), default_sandbox(), standards=device_standards, settings=DEVICE_SETTINGS
    )
    assert report.accepted, report.reasons
    assert report.device == open_accelerator().name
    assert report.shapes[0].kernels > 5


@pytest.mark.gpu
@without_device
@pytest.mark.parametrize("name", sorted(CUDA_CHEATS))
@pytest.mark.asyncio(loop_scope="module")
async def test_on_a_device_a_cheat_is_refused_with_its_reason(name: str, device_standards) -> None:
    source, codes = CUDA_CHEATS[name]
    report = await measure(
        BODY + source, [LARGE], TriMul(), default_sandbox(), standards=device_standards, settings=DEVICE_SETTINGS
    )
    assert not report.accepted
    assert {str(reason.code) for reason in report.reasons} <= codes, report.reasons


@pytest.mark.gpu
@without_device
@pytest.mark.asyncio(loop_scope="module")
async def test_on_a_device_the_trimul_seed_takes_longer_than_its_floor() -> None:
    problem = TriMul()
    variants = problem.benchmark()[:1]
    report = await measure(problem.seed_source(), variants, problem, default_sandbox(), settings=DEVICE_SETTINGS)
    assert report.accepted, report.reasons
    assert report.shapes[0].median_us > report.shapes[0].floor_us
