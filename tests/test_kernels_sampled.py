"""A part of the output at the variant's own size: what is drawn, and what grading it shows."""

import numpy as np
import pytest

from pawl.kernels import PROBLEMS, Distribution, FailureClass, Variant, find_problem
from pawl.kernels.problem import Sampled

from .zoo import exploits

SMALL = {
    "softmax": {"rows": 333, "columns": 77},
    "layer_norm": {"rows": 333, "columns": 77},
    "cross_entropy": {"rows": 333, "classes": 77},
    "matmul": {"m": 150, "n": 333, "k": 33, "activation": "silu"},
    "attention": {"n": 150, "batch": 2, "heads": 3, "d": 32, "causal": True},
    "trimul": {"n": 36, "batch": 2, "dim": 16, "hidden": 16, "mask": True},
}
"""Of which the whole output is soon computed."""
MODERATE = {
    "softmax": {"rows": 2048, "columns": 1000},
    "layer_norm": {"rows": 2048, "columns": 768},
    "cross_entropy": {"rows": 3001, "classes": 500},
    "matmul": {"m": 512, "n": 777, "k": 128, "activation": "relu"},
    "attention": {"n": 384, "batch": 2, "heads": 2, "d": 64, "causal": True},
}

CHUNKS = '''
import torch
import triton
import triton.language as tl


@triton.jit
def losses_of(logits_ptr, targets_ptr, losses_ptr, rows, classes, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """One after another, the losses of rows that lie together."""
    column = tl.arange(0, BLOCK)
    for row in range(tl.program_id(0) * ROWS, tl.minimum(tl.program_id(0) * ROWS + ROWS, rows)):
        x = tl.load(logits_ptr + row * classes + column, mask=column < classes, other=float("-inf"))
        peak = tl.max(x, 0)
        chosen = tl.load(logits_ptr + row * classes + tl.load(targets_ptr + row))
        tl.store(losses_ptr + row, tl.log(tl.sum(tl.exp(x - peak), 0)) + peak - chosen)


def custom_kernel(data):
    logits, targets = data
    rows, classes = logits.shape
    losses = torch.empty(rows, dtype=torch.float32, device=logits.device)
    losses_of[(triton.cdiv(rows, 24),)](
        logits, targets, losses, rows, classes, ROWS=24, BLOCK=triton.next_power_of_2(classes)
    )
    return losses
'''
"""No stretch of 128 or 256 rows, nor the one before the end, both begins and ends with a program's 24."""


def variant_of(name, sizes, distribution=Distribution.NORMAL):
    """Under the contract that the problem's benchmark has."""
    precision = find_problem(name).benchmark()[0].precision
    return Variant(problem=name, parameters=sizes, distribution=distribution, precision=precision)


def test_every_problem_in_the_house_can_be_looked_at_in_part():
    assert set(SMALL) == set(PROBLEMS)
    assert all(isinstance(problem, Sampled) for problem in PROBLEMS.values())


@pytest.mark.parametrize("distribution", Distribution)
@pytest.mark.parametrize("name", SMALL)
def test_a_part_has_the_values_of_the_whole_whatever_lies_beside_it(name, distribution):
    problem, variant = find_problem(name), variant_of(name, SMALL[name], distribution)
    seen = set()
    for seed in range(3):
        sample = problem.sample(variant, seed, 16 if name == "trimul" else 128)
        inputs = problem.inputs(variant, 100 + seed)
        for tensor, block, values in sample.fills:
            assert values.dtype == inputs[tensor].dtype
            inputs[tensor][tuple(slice(*each) for each in block)] = values
        whole = problem.reference(variant, inputs)[tuple(slice(*each) for each in sample.block)]
        np.testing.assert_allclose(sample.reference, whole[sample.places], rtol=1e-9, atol=1e-12)
        assert sample.reference.size
        assert not np.array_equal(sample.baseline, sample.reference) or distribution is Distribution.BINARY
        seen.add(tuple(sample.block))
    assert len(seen) > 1
    again = problem.sample(variant, 2, 16 if name == "trimul" else 128)
    assert np.array_equal(again.reference, sample.reference)


def test_a_part_stays_small_however_long_the_rows_are():
    problem = find_problem("softmax")
    longest = max(problem.benchmark(), key=lambda variant: variant["columns"])
    sample = problem.sample(longest, 1, 256)
    assert sum(values.nbytes for _, _, values in sample.fills) < 20e6


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("name", MODERATE)
async def test_an_honest_kernel_is_right_at_its_own_size_too(verifier, name):
    problem, variant = find_problem(name), variant_of(name, MODERATE[name])
    report = await verifier.verify(problem.seed_source(), variant, deep=True)
    assert report.accepted, report.reasons
    assert report.unsampled is None
    assert report.correctness[-1]["variant"] == str(variant)


@pytest.mark.asyncio(loop_scope="session")
async def test_a_kernel_that_copies_at_large_sizes_is_found_out_there(verifier):
    (cheat,) = (each for each in exploits() if each.name == "x34_copied_when_large")
    report = await verifier.verify(cheat.source, cheat.variant, deep=True)
    assert report.failure_class is FailureClass.WRONG_RESULT
    assert str(cheat.variant) in report.reasons[0]


@pytest.mark.asyncio(loop_scope="session")
async def test_programs_that_reach_beyond_a_stretch_leave_it_ungraded_not_wrong(verifier):
    report = await verifier.verify(CHUNKS, variant_of("cross_entropy", MODERATE["cross_entropy"]), deep=True)
    assert report.accepted, report.reasons
    assert report.unsampled
