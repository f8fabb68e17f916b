"""What an agent is told of the device and of a verdict, as plain data and words."""

from collections.abc import Mapping
from typing import cast

from pydantic import JsonValue

from ..kernels import Device, Report

MISMATCH = ("missed", "largest", "relative_l2", "baseline_l2", "slope", "inexact")
"""What of a checked case may be told: how far off it is. Its sizes are drawn, and the reasons tell what they tell."""
LAUNCHES = 32
"""Launches that are told of, those that take longest."""
DIGITS = 4


def device_words(device: Device) -> str:
    """The device's figures, a line each."""
    tera = 1e12
    lines = (
        f"{device.name}: {device.multiprocessors} multiprocessors at {device.clock_hz / 1e9:.3g} GHz",
        f"tensor cores, dense: fp16 {device.half_flops / tera:.0f}, TF32 {device.tf32_flops / tera:.0f} TFLOP/s; "
        f"fp32 without them {device.fp32_flops / tera:.0f} TFLOP/s",
        f"HBM3 {device.memory_bytes / tera:.2f} TB/s as a copy reaches it; L2 {device.l2_bytes / tera:.1f} TB/s, "
        f"of which {device.l2_capacity / 1e6:.0f} MB are of use to one launch",
        f"a multiprocessor: {device.registers} registers (at most 255 a thread), {device.shared_bytes} bytes of shared "
        f"memory ({device.shared_block} a block), {device.threads} threads, {device.blocks} blocks",
        f"refused: more than {device.shared_block} bytes of shared memory a block, or more than {device.spill_limit} "
        "bytes of spilled registers a thread",
        f"a launch takes {1e6 * device.launch_seconds:.0f} microseconds at least",
    )
    return "\n".join(lines) + "\n"


def launch_rows(report: Report) -> list[JsonValue]:
    """A report's launches, the longest first, figures rounded."""
    rows = sorted(report.launches, key=lambda launch: -launch.time_us)[:LAUNCHES]
    return [_rounded(cast("JsonValue", launch.model_dump(mode="json"))) for launch in rows]


def first_mismatch(report: Report) -> JsonValue:
    """How far off the checked case is that the reasons speak of; none where they speak of none."""
    said = " ".join(report.reasons)
    for case in report.correctness:
        if f"({case.get('variant')})" in said:
            return _rounded({name: case[name] for name in MISMATCH if case.get(name) is not None}) or None
    return None


def _rounded(value: JsonValue) -> JsonValue:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, Mapping):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return value
