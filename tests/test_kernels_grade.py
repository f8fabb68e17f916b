"""What the grader lets through and what it doesn't: honest runs in each precision, and runs that are not."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
from threadpoolctl import threadpool_info

import pawl.kernels.problems.trimul_reference as formulas
from pawl.kernels import PROBLEMS, Distribution, FailureClass, Precision, TriMul, Variant
from pawl.kernels.grade import failed, half, measure, verdict
from pawl.kernels.threads import ONE_THREAD

PROBLEM = TriMul()
TOLERANCE = PROBLEM.tolerance(Precision.FP16)


def mantissa(bits: int) -> Callable[[np.ndarray], np.ndarray]:
    """Rounding to so many explicit bits of mantissa, to nearest even, at any exponent."""

    def rounded(values):
        fraction, exponent = np.frexp(values)
        return np.ldexp(np.rint(fraction * 2.0 ** (bits + 1)) / 2.0 ** (bits + 1), exponent)

    return rounded


def e4m3(values):
    """Rounding to fp8 of four bits of exponent and three of mantissa, saturating."""
    values = np.clip(values, -448, 448)
    step = 2.0 ** (np.maximum(np.frexp(values)[1] - 1, -6) - 3)
    return np.rint(values / step) * step


def in_the_triangle_only(rounding):
    """Left and right, the seventh and the eighth to be rounded, this way; the rest in half precision."""
    calls = iter(range(1, 100))
    return lambda values: rounding(values) if next(calls) in (7, 8) else half(values)


def graded(seed, output, tolerance=TOLERANCE):
    """Verdicts over the cases of a seed, of `output(variant, inputs)`."""
    found = []
    for variant in PROBLEM.correctness(seed):
        inputs = PROBLEM.inputs(variant, seed)
        value = output(variant, inputs)
        found.append(verdict(measure(PROBLEM, variant, inputs, value.astype(np.float32)), tolerance))
    return found


@pytest.mark.parametrize("rounding", [half, mantissa(10), mantissa(7)], ids=["fp16", "tf32", "bf16"])
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 200))])
def test_an_honest_run_passes_at_half_of_every_limit(seed, rounding):
    halved = {name: getattr(TOLERANCE, name) / 2 for name in ("rtol", "atol", "relative_l2", "budget", "slope")}
    found = graded(seed, lambda _, given: PROBLEM.reference(_, given, rounding), TOLERANCE.model_copy(update=halved))
    assert found == [None] * 5


def scaled(by):
    return lambda variant, inputs: by * PROBLEM.reference(variant, inputs, half)


def without_term(k):
    def output(variant, inputs):
        mask = inputs["mask"].copy()
        mask[:, :, k] = 0
        return PROBLEM.reference(variant, inputs | {"mask": mask}, half)

    return output


def in_precision(rounding):
    return lambda variant, inputs: PROBLEM.reference(variant, inputs, rounding())


@pytest.mark.parametrize(
    ("output", "failures"),
    [
        (scaled(1.01), {FailureClass.BIAS}),
        (scaled(0.995), {FailureClass.BIAS}),
        (scaled(0.0), {FailureClass.WRONG_RESULT}),
        (in_precision(lambda: e4m3), {FailureClass.WRONG_RESULT}),
    ],
    ids=["1 %", "0.5 %", "zeros", "fp8"],
)
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_every_case_shows_what_is_wrong(seed, output, failures):
    assert {found and found[0] for found in graded(seed, output)} <= failures


@pytest.mark.parametrize("term", [0, -1])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_dropped_term_shows_but_where_a_needle_lies_elsewhere(seed, term):
    cases = zip(PROBLEM.correctness(seed), graded(seed, without_term(term)), strict=True)
    found = [each for variant, each in cases if variant.distribution is not Distribution.NEEDLE]
    assert {each and each[0] for each in found} == {FailureClass.WRONG_RESULT}


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_fp8_in_the_triangle_alone_shows(seed):
    found = graded(seed, in_precision(lambda: in_the_triangle_only(e4m3)))
    assert sum(each is not None for each in found) >= 3


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_mask_that_is_ignored_shows(seed):
    def output(variant, inputs):
        return PROBLEM.reference(variant, inputs | {"mask": np.ones_like(inputs["mask"])}, half)

    cases = list(zip(PROBLEM.correctness(seed), graded(seed, output), strict=True))
    assert not any(found for variant, found in cases if not variant["mask"])
    assert any(found for variant, found in cases if variant["mask"])


def test_another_sigmoid_and_another_epsilon_show(monkeypatch):
    drawn = [(variant, PROBLEM.inputs(variant, 0)) for variant in PROBLEM.correctness()]

    def caught(name, value):
        with monkeypatch.context() as patch:
            patch.setattr(formulas, name, value)
            outputs = [PROBLEM.reference(variant, given) for variant, given in drawn]
        return [found is not None for found in graded(0, lambda *_: outputs.pop(0))]

    needle = [variant.distribution is Distribution.NEEDLE for variant in PROBLEM.correctness()]
    assert all(caught("_sigmoid", lambda x: np.clip(x / 6 + 0.5, 0, 1)))
    assert [each for each, is_needle in zip(caught("EPSILON", 1e-3), needle, strict=True) if is_needle] == [True]


@pytest.mark.parametrize(
    ("spoil", "failure"),
    [
        (lambda x: x, None),
        (lambda x: x * np.float32(1 + 2e-4), FailureClass.BIAS),
        (lambda x: x.astype(np.float16).astype(np.float32), FailureClass.PRECISION),
        (lambda x: x * np.float32(1.2), FailureClass.WRONG_RESULT),
        (lambda x: x.astype(np.float64), FailureClass.BAD_OUTPUT),
        (lambda x: x[:, :, :-1], FailureClass.BAD_OUTPUT),
        (lambda x: np.where(x == x.max(), np.float32("nan"), x), FailureClass.BAD_OUTPUT),
        (lambda x: None, FailureClass.BAD_OUTPUT),
    ],
)
def test_the_grader_tells_right_from_wrong(spoil, failure):
    variant = PROBLEM.correctness()[0]
    inputs = PROBLEM.inputs(variant, 3)
    output = PROBLEM.reference(variant, inputs).astype(np.float32)
    case = measure(PROBLEM, variant, inputs, spoil(output))
    found = verdict(case, PROBLEM.tolerance(Precision.FP32))
    assert (found and found[0]) == failure


def test_sums_of_zeros_and_ones_must_be_exact():
    problem = PROBLEMS["matmul"]
    parameters = {"m": 32, "n": 48, "k": 1500, "activation": "silu"}
    variant = Variant(problem="matmul", parameters=parameters, distribution=Distribution.BINARY)
    inputs = problem.inputs(variant, 1)
    output = problem.reference(variant, inputs).astype(np.float16)
    tolerance = problem.tolerance(variant.precision)
    assert output.max() > 300
    assert verdict(measure(problem, variant, inputs, output), tolerance) is None
    output[3, 4] += 1
    code, said = verdict(measure(problem, variant, inputs, output), tolerance) or ("", "")
    assert code is FailureClass.WRONG_RESULT
    assert said.startswith("1 elements are not exact")


def test_what_is_said_names_what_was_found_the_limit_and_the_case():
    variant = PROBLEM.correctness()[0]
    inputs = PROBLEM.inputs(variant, 3)
    output = PROBLEM.reference(variant, inputs).astype(np.float32)
    _, said = verdict(measure(PROBLEM, variant, inputs, output * np.float32(1.01)), TOLERANCE) or ("", "")
    assert "1.01000 times the reference" in said
    assert str(variant) in said
    assert "a part in 244" in said
    code, said = verdict(failed(variant, FailureClass.TIMEOUT, "took 3 s"), TOLERANCE) or ("", "")
    assert code is FailureClass.TIMEOUT
    assert said == f"took 3 s ({variant})"


def test_grading_takes_one_thread_and_leaves_the_others_as_they_were():
    def blas():
        return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}

    def limited():
        with ONE_THREAD, ONE_THREAD:
            return blas()

    before = blas()
    with ThreadPoolExecutor(2) as threads:  # whichever thread grades
        barrier = Barrier(2)
        found = [threads.submit(lambda: (barrier.wait(), limited())[1]) for _ in range(2)]
        assert [limited(), *(each.result() for each in found)] == [{1}] * 3
    assert blas() == before
