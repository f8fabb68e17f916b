"""What a submission's own process tells the verifier is refused, or measured, and never taken for a measurement."""

import pytest
import pytest_asyncio

from pawl.kernels import FailureClass, TriMul, Verifier, trimul_variant
from pawl.kernels.answers import CasesAnswer, CompileAnswer, CountAnswer, Failure, Trace, TraceAnswer, read_answer
from pawl.safety.sandbox import default_sandbox

from .escapes import kernels

PROBLEM = TriMul()
SEED = PROBLEM.seed_source()
VARIANT = trimul_variant(512)
GOOD_FIGURES = '{"error": None, "missed": 0, "largest": 0.0, "relative_l2": 0.0}'

LAUNCH = {
    "kernel": "k",
    "grid": [4, 1, 1],
    "arguments": {
        "x_ptr": {"tensor": 0, "offset": 0, "dtype": "float32", "bytes": 128},
        "n": {"value": 32},
        "scale": {"value": 0.5},
    },
    "constexprs": {"N": 32, "PRECISION": "ieee", "SHAPE": [4, 8], "BIAS": None, "EVEN": True},
    "options": {"num_warps": 4},
}
OPERATOR = {"name": "add.Tensor", "bytes": 8, "flops": 0.0, "dtype": "float32"}
RESOURCES = {
    "registers": 32, "spills": 0, "shared": 0, "warps": 4, "stages": 3, "wgmma": 0, "mma": 0, "async_copies": 0,
}  # fmt: skip
COUNTS = {"accesses": [], "dots": {"fp16": 2.0}, "operations": 3, "trips": 1.0}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def verifier(tmp_path_factory):
    verifier = Verifier(default_sandbox(), tmp_path_factory.mktemp("verifications"))
    yield verifier
    await verifier.close()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "case",
    [
        GOOD_FIGURES,
        GOOD_FIGURES.replace('"error": None, ', ""),
        '{"error": None}',
        '{"error": ["nonsense", "x"]}',
        '{"error": [["crash"], "x"]}',
        '{"error": []}',
        "7",
    ],
)
async def test_a_kernel_that_writes_its_own_verdict_is_rejected(verifier, case):
    report = await verifier.verify(kernels.FORGED.format(case=case, elements=1), VARIANT)
    assert report.failure_class is FailureClass.BAD_OUTPUT
    assert "can't be read" in report.reasons[0]


@pytest.mark.asyncio(loop_scope="module")
async def test_an_output_is_measured_whatever_its_process_says_of_it(verifier):
    report = await verifier.verify(kernels.FORGED.format(case="{}", elements=1), VARIANT)
    assert report.failure_class is FailureClass.BAD_OUTPUT
    assert "the output's shape is [1]" in report.reasons[0]


@pytest.mark.asyncio(loop_scope="module")
async def test_an_answer_holds_no_more_than_the_cases_can_give(verifier):
    report = await verifier.verify(kernels.FORGED.format(case="{}", elements=1 << 23), VARIANT)
    assert not report.accepted
    assert "an answer of" in report.reasons[0]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("traces", ["5", "[{'launches': [[1]], 'operators': []}]"])
async def test_launches_that_cannot_be_read_are_a_rejection(verifier, traces):
    report = await verifier.verify(SEED + kernels.FORGED_TRACE.format(traces=traces), VARIANT)
    assert report.failure_class is FailureClass.BAD_OUTPUT
    assert "can't be read" in report.reasons[0]
    assert all(case["missed"] == 0 for case in report.correctness)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("behind", [kernels.TWO_FACED, kernels.HALF_WHERE_TIMED])
async def test_what_is_timed_is_what_was_checked(verifier, behind):
    report = await verifier.verify(SEED + behind, VARIANT)
    assert report.failure_class is FailureClass.UNCHECKED
    assert "triangle" in report.reasons[0]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_kernel_may_choose_by_size_mask_and_batch_among_kernels_that_were_checked(verifier):
    twin = SEED[SEED.index("@triton.jit\ndef multiply(") : SEED.index("def normalise(")]
    source = SEED.replace("def normalise(", twin.replace("multiply(", "multiply_exact(") + "def normalise(")
    launch = "multiply[(triton.cdiv(product.numel(), 1024),)](product, gate, gated, product.numel(), BLOCK=1024)"
    assert launch in source
    choosing = (
        "for b in range(batch):\n"
        "        parts = product[b], gate.view_as(product)[b], gated[b]\n"
        "        which = multiply_exact if n % 16 == 0 else multiply\n"
        "        which[(triton.cdiv(parts[0].numel(), 1024),)](*parts, parts[0].numel(), BLOCK=1024)"
    )
    source = source.replace(launch, choosing)
    for variant in (VARIANT, trimul_variant(777, 2, mask=True)):
        report = await verifier.verify(source, variant)
        assert report.accepted, report.reasons
        assert ("multiply_exact" in [launch.kernel for launch in report.launches]) is (variant["n"] == 512)


@pytest.mark.asyncio(loop_scope="module")
async def test_the_sizes_that_are_checked_are_drawn_for_the_source(verifier):
    said = [str(case["variant"]) for case in (await verifier.verify(SEED, VARIANT)).correctness]
    sizes = [int(each.split(",")[0].removeprefix("n=")) for each in said]
    report = await verifier.verify(SEED + kernels.KNOWS_SIZES.format(sizes=sizes), VARIANT)
    assert report.failure_class is FailureClass.WRONG_RESULT
    drawn = [[case["n"] for case in PROBLEM.correctness(seed)] for seed in range(50)]
    assert len(set(map(tuple, drawn))) > 20
    for sizes in drawn:
        assert 32 in sizes
        assert sum(size % 2 for size in sizes) >= 4


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "source", ["x = '\ud800'\n", SEED.replace("@triton.jit", "@triton.jit(do_not_specialize=5)", 1)]
)
async def test_no_source_makes_the_verifier_raise(verifier, source):
    assert not (await verifier.verify(source, VARIANT)).accepted


@pytest.mark.parametrize(
    ("model", "answer"),
    [
        (CasesAnswer, {"cases": [{}], "courses": [{"steps": [], "operators": ["add.Tensor"]}], "traces": []}),
        (TraceAnswer, {"cases": [], "courses": [], "traces": [{"launches": [LAUNCH], "operators": [OPERATOR]}]}),
        (CompileAnswer, {"answers": [RESOURCES]}),
        (CountAnswer, {"answers": [COUNTS]}),
    ],
)
def test_a_proper_answer_is_read_as_it_is(model, answer):
    told = read_answer(model, answer)
    assert not isinstance(told, Failure)
    assert told.model_dump(mode="json") == answer


@pytest.mark.parametrize(
    ("model", "answer"),
    [
        (Trace, {"launches": [LAUNCH | {"grid": ["a", 1, 1]}], "operators": []}),
        (Trace, {"launches": [LAUNCH | {"grid": [0, 1, 1]}], "operators": []}),
        (Trace, {"launches": [LAUNCH | {"grid": [10**12, 1, 1]}], "operators": []}),
        (Trace, {"launches": [LAUNCH | {"grid": [4]}], "operators": []}),
        (Trace, {"launches": [LAUNCH | {"kernel": ["k"]}], "operators": []}),
        (Trace, {"launches": [LAUNCH | {"arguments": {"x": {"tensor": -1}}}], "operators": []}),
        (Trace, {"launches": [LAUNCH | {"constexprs": {"N": {"x": 1}}}], "operators": []}),
        (Trace, {"launches": [], "operators": [OPERATOR | {"bytes": -1}]}),
        (Trace, {"launches": [], "operators": [OPERATOR | {"flops": 1e300}]}),
        (Trace, {"launches": [], "operators": [], "time_us": 1}),
        (TraceAnswer, {"cases": [], "courses": [], "traces": []}),
        (CompileAnswer, {"answers": [RESOURCES | {"registers": 0}]}),
        (CompileAnswer, {"answers": [RESOURCES | {"warps": 0}]}),
        (CountAnswer, {"answers": [COUNTS | {"operations": -1.0}]}),
        (CountAnswer, {"answers": []}),
        (CountAnswer, {"error": None}),
        (CountAnswer, [1]),
    ],
)
def test_what_is_no_proper_answer_is_a_failure(model, answer):
    told = read_answer(model, answer)
    assert isinstance(told, Failure)
    assert told.error[0] is FailureClass.BAD_OUTPUT
