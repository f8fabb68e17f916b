"""Every cheat of the zoo gets past its naive grader, and none past the verifier."""

import os
import shutil

import pytest

from .zoo import Exploit, Outcome, exploits, honest_source
from .zoo.proving import Graders, unproved

LARGE = {"two_sizes", "trusted_recording", "window"}
"""Graders that run large inputs in the interpreter, or wait."""
FAMILIES = {
    "x02_background_thread", "x03_lazy_subclass", "x14_pointer_cache", "x21_frame_walk", "x22_patched_comparison",
    "x26_exit_zero", "x39_aliased_input", "p04_forged_answer", "p07_kernel_attributes",
    "p09_answer_as_constant",
}  # fmt: skip
"""One of each kind; the others take a second or two each."""


def cheats(slow=lambda exploit: False, needs=("cpu", "gpu")):
    return [
        pytest.param(each, id=each.name, marks=[pytest.mark.slow] if slow(each) else [])
        for each in exploits()
        if each.needs in needs
    ]


@pytest.fixture(scope="module")
def graders():
    graders = Graders()
    yield graders
    graders.close()


@pytest.mark.parametrize("exploit", cheats(lambda each: each.naive in LARGE or each.name not in FAMILIES, ("cpu",)))
def test_a_cheat_gets_past_its_naive_grader(graders, exploit):
    assert unproved(graders, exploit) is None


@pytest.mark.gpu
@pytest.mark.parametrize("exploit", cheats(needs=("gpu",)))
def test_a_cheat_gets_past_its_naive_grader_on_a_gpu(exploit):
    if shutil.which("nvidia-smi") is None and not os.path.exists("/dev/nvidia0"):
        pytest.skip("events, streams and graphs need a CUDA device, and there is none here")
    graders = Graders(on_device=True)
    try:
        assert unproved(graders, exploit) is None
    finally:
        graders.close()


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("exploit", cheats(lambda each: each.name not in FAMILIES))
async def test_no_cheat_gets_past_the_verifier(verifier, exploit: Exploit):
    honest = None
    if exploit.outcome is Outcome.NO_GAIN:
        honest = await verifier.verify(honest_source(exploit.problem), exploit.variant)
        assert honest.accepted, honest.reasons
    report = await verifier.verify(exploit.source, exploit.variant)
    assert exploit.failed_to_gain(report, honest and honest.time_us), (report.status, report.reasons, report.time_us)


def test_the_zoo_holds_every_known_exploit():
    assert {f"X{number}" for number in range(1, 45)} <= {each.id for each in exploits()}
    assert all(each.name.lower().startswith(f"{each.id[0].lower()}{int(each.id[1:]):02}_") for each in exploits())
