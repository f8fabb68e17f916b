"""What a submission's own process tells the verifier is refused, or measured, and never taken for a measurement."""

import time

import pytest

from pawl.kernels import FailureClass, TriMul, Verifier, trimul_variant
from pawl.kernels.answers import CompileAnswer, CountAnswer, Failure, ReplayAnswer, SessionAnswer, read_answer
from pawl.safety.sandbox import default_sandbox

from .escapes import kernels

PROBLEM = TriMul()
SEED = PROBLEM.seed_source()
VARIANT = trimul_variant(512)
TENSOR = {"t": 0, "dtype": "float32", "offset": 0, "sizes": [32], "strides": [1]}
LAUNCH = {
    "kernel": "k",
    "grid": [4, 1, 1],
    "arguments": {
        "x_ptr": TENSOR,
        "n": {"value": 32},
        "scale": {"value": 0.5},
        "low": {"float": "-inf"},
        "tiles": {"descriptor": TENSOR, "block": [32], "padding": "zero"},
    },
    "constexprs": {"N": 32, "PRECISION": "ieee", "SHAPE": [4, 8], "BIAS": None, "EVEN": True, "TYPE": {"type": "fp16"}},
    "options": {"num_warps": 4},
}
OPERATOR = {"op": "aten.add.Tensor", "args": [TENSOR, 1], "kwargs": {}, "outs": [TENSOR], "region": None}
CALL = {"inputs": {"x": TENSOR}, "steps": [LAUNCH, OPERATOR], "output": TENSOR, "flags": {"tf32": False}}
SESSION = {"sizes": [128], "constants": [], "choices": {}, "prologue": [], "calls": [CALL]}
RESOURCES = {
    "registers": 32, "spills": 0, "shared": 0, "warps": 4, "stages": 3, "wgmma": 0, "mma": 0, "async_copies": 0,
    "bulk": 0, "ctas": 1, "serialized": 0,
}  # fmt: skip
COUNTS = {
    "accesses": [], "dots": {"fp16": 2.0}, "tiles": {"fp16": [16, 16, 16]}, "operations": 3, "trips": 1.0,
    "heaviest": 1.0,
}  # fmt: skip


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize(
    "forge",
    [
        "found['calls'] = 5",
        "found['calls'] = [[1]]",
        "found['calls'] = found['calls'][:1]",
        "found['calls'][0]['output']['sizes'] = [10**12]",
        "found['calls'][0]['output']['offset'] = 10**9",
        "found['calls'][0]['output'] = found['calls'][0]['inputs']['input']",
        "found['calls'][0]['steps'] = []",
        "found['sizes'] = []",
        "[call['inputs'].clear() for call in found['calls']]",
        "len(found['calls']) == 2 and [call['inputs'].clear() for call in found['calls']]",
        "found['error'] = ['nonsense', 'x']",
        "[call['inputs']['input'].update(dtype='float16') for call in found['calls']]",
        "[call['inputs']['mask']['strides'].reverse() for call in found['calls']]",
        "[call['inputs'].update(mask=call['inputs']['input']) for call in found['calls']]",
    ],
)
async def test_a_recording_that_is_forged_is_a_rejection(verifier, forge):
    report = await verifier.verify(SEED + kernels.FORGED.format(forge=forge), VARIANT)
    assert report.failure_class is FailureClass.BAD_OUTPUT, report.reasons


@pytest.mark.asyncio(loop_scope="session")
async def test_a_recorder_that_was_made_to_keep_more_constants_is_refused(verifier):
    more = "sys.modules['pawl_worker.record'].CONSTANTS = 1 << 40\nTABLE = torch.tensor([1.0] * 20_000)\n"
    behind = f"\n\nimport sys\n{more}honest = custom_kernel\n\ndef custom_kernel(data):\n    TABLE + 1\n"
    report = await verifier.verify(SEED + behind + "    return honest(data)\n", VARIANT)
    assert report.failure_class is FailureClass.UNTRACED_DATA, report.reasons
    assert "more than 65536 bytes" in report.reasons[0]


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize(
    ("behind", "failure", "said"),
    [
        # found, and graded, at a smaller size
        pytest.param(kernels.TWO_FACED, FailureClass.BAD_OUTPUT, "n=128", marks=pytest.mark.slow),
        (kernels.OTHER_WHERE_TIMED, FailureClass.UNCHECKED, "clamp"),
    ],
)
async def test_what_is_timed_is_what_was_checked(verifier, behind, failure, said):
    report = await verifier.verify(SEED + behind, VARIANT)
    assert report.failure_class is failure, report.reasons
    assert said in report.reasons[0]


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="session")
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


@pytest.mark.asyncio(loop_scope="session")
async def test_the_sizes_that_are_checked_are_drawn_for_the_source_from_a_secret(verifier, tmp_path):
    said = [str(case["variant"]) for case in (await verifier.verify(SEED, VARIANT)).correctness]
    sizes = [int(each.split(",")[0].removeprefix("n=")) for each in said]
    report = await verifier.verify(SEED + kernels.KNOWS_SIZES.format(sizes=sizes), VARIANT)
    assert report.failure_class is FailureClass.WRONG_RESULT
    secrets = [Verifier(default_sandbox(), tmp_path / str(number)) for number in range(20)]
    assert len({other._seed(SEED, "sizes") for other in secrets}) == 20
    assert (tmp_path / "0" / "secret").stat().st_mode & 0o777 == 0o600
    again = Verifier(default_sandbox(), tmp_path / "0")
    assert again._seed(SEED, "sizes") == secrets[0]._seed(SEED, "sizes")
    drawn = [[case["n"] for case in PROBLEM.correctness(seed)] for seed in range(50)]
    assert len(set(map(tuple, drawn))) > 20
    for sizes in drawn:
        assert 32 in sizes
        assert sum(size % 2 for size in sizes) >= 4


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize(
    "source", ["x = '\ud800'\n", SEED.replace("@triton.jit", "@triton.jit(do_not_specialize=5)", 1)]
)
async def test_no_source_makes_the_verifier_raise(verifier, source):
    assert not (await verifier.verify(source, VARIANT)).accepted


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize(
    "source",
    [
        SEED + "".join(f"\n@triton.jit\ndef k{i}(x):\n    k{i - 1}(x)\n" for i in range(6000)),
        SEED + "\nX = [" + "1, " * 1_000_000 + "]\n",
        SEED + "\n@triton.jit\ndef k(x):\n    y = " + "-" * 90_000 + "x\n",
    ],
    ids=["kernels that call one another", "a long list", "a deep expression"],
)
async def test_reading_a_source_is_over_soon(verifier, source):
    start = time.monotonic()
    report = await verifier.verify(source, VARIANT)
    assert report.failure_class is FailureClass.SYNTAX_ERROR, report.reasons
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("model", "answer"),
    [
        (SessionAnswer, SESSION),
        (ReplayAnswer, {"runs": [{"calls": [{"error": None}], "spins": False, "products": {"k": ["fp16"]}}]}),
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
        *(
            (SessionAnswer, SESSION | {"calls": [CALL | {"steps": [LAUNCH | change]}]})
            for change in (
                {"grid": ["a", 1, 1]},
                {"grid": [0, 1, 1]},
                {"grid": [10**12, 1, 1]},
                {"grid": [4]},
                {"kernel": ["k"]},
                {"arguments": {"x": TENSOR | {"t": -1}}},
                {"arguments": {"x": {"float": "1e5"}}},
                {"constexprs": {"N": {"x": 1}}},
            )
        ),
        (SessionAnswer, SESSION | {"calls": [CALL | {"steps": [OPERATOR | {"outs": [5]}]}]}),
        (SessionAnswer, SESSION | {"calls": [CALL | {"time_us": 1}]}),
        (SessionAnswer, SESSION | {"sizes": [-1]}),
        (ReplayAnswer, {"runs": [{"calls": [], "spins": 1, "products": {}}]}),
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
