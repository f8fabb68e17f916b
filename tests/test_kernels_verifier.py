"""The verifier, end to end: the real sandbox, the real interpreter, the real compiler; no GPU."""

import asyncio
import subprocess
import sys

import pytest

from pawl.kernels import ChildLimits, FailureClass, Precision, Status, TriMul, Verifier, find_problem, trimul_variant
from pawl.safety.sandbox import default_sandbox

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROBLEM = TriMul()
VARIANT = trimul_variant(512)
SCHEDULE = {
    "fusion": "both",
    "precision": "half",
    "layout": "channel_first",
    "front_rows": "64",
    "front_split": "joint",
    "tile": "128x64",
    "warps": "4",
    "stages": "3",
    "group": "4",
    "back_rows": "64",
}
SOURCE = PROBLEM.render(SCHEDULE)


async def test_a_good_kernel_is_accepted_with_a_time_and_what_it_rests_on(verifier):
    report = await verifier.verify(SOURCE, VARIANT)
    assert report.status is Status.ACCEPTED, report.reasons
    assert report.floor_us < report.crude_us < report.time_us
    assert report.basis == "estimated"
    assert len(report.perturbed_us) == 4
    assert all(0.5 < time / report.time_us < 2 for time in report.perturbed_us)
    kernels = {launch.kernel: launch for launch in report.launches}
    assert {"project_all", "triangle", "finish"} <= set(kernels)
    assert kernels["triangle"].resources["registers"] > 32
    assert all(case["missed"] == 0 for case in report.correctness)


async def test_a_question_asked_again_costs_a_look_up(verifier):
    first = await verifier.verify(SOURCE, VARIANT)
    before = verifier.cpu_seconds
    assert await verifier.verify(SOURCE, VARIANT) == first
    assert verifier.cpu_seconds == before


async def test_a_second_verifier_reads_the_shared_cache_and_starts_no_process(verifier, tmp_path):
    first = await verifier.verify(SOURCE, VARIANT)
    other = Verifier(default_sandbox(), tmp_path / "own", shared_cache=verifier._requests._cache.root)
    assert await other.verify(SOURCE, VARIANT) == first
    assert other.cpu_seconds == 0
    assert not (tmp_path / "own").exists()


@pytest.mark.slow
async def test_a_schedule_of_known_kernels_compiles_nothing(verifier):
    await verifier.verify(SOURCE, VARIANT)
    compiled = sorted((verifier._requests._cache.root / "compile").rglob("*.json"))
    report = await verifier.verify(PROBLEM.render(SCHEDULE | {"group": "16"}), VARIANT)
    assert report.accepted
    assert sorted((verifier._requests._cache.root / "compile").rglob("*.json")) == compiled


async def test_the_contract_decides_which_precision_is_right(verifier):
    report = await verifier.verify(SOURCE, VARIANT.model_copy(update={"precision": Precision.FP32}))
    assert report.failure_class is FailureClass.PRECISION
    assert "contract" in report.reasons[0]


IN_TORCH = """
torch.backends.cuda.matmul.allow_tf32 = ALLOWED


class Torch:
    def __getitem__(self, grid):
        def launch(left, right, product, n, hidden, BLOCK, DEPTH):
            made = torch.bmm(left.view(-1, n, n), right.view(-1, n, n).transpose(1, 2))
            product.copy_(made.view(-1, hidden, n, n).permute(0, 2, 3, 1))

        return launch


triangle = Torch()
"""


@pytest.mark.parametrize("allowed", [True, False])
async def test_products_of_torch_are_graded_in_the_tf32_that_they_are_timed_in(verifier, allowed):
    source = PROBLEM.seed_source() + IN_TORCH.replace("ALLOWED", str(allowed))
    report = await verifier.verify(source, VARIANT.model_copy(update={"precision": Precision.FP32}))
    assert report.failure_class is (FailureClass.PRECISION if allowed else None), report.reasons


@pytest.mark.slow  # tests/zoo has such a kernel too
async def test_what_does_not_fit_in_shared_memory_is_refused(verifier):
    report = await verifier.verify(PROBLEM.render(SCHEDULE | {"tile": "128x256", "stages": "5"}), VARIANT)
    assert report.failure_class is FailureClass.SHARED_MEMORY
    assert "232448" in report.reasons[0]


UNMASKED = SOURCE.replace("mask=inside, other=0.0)[:, None]", "mask=inside, other=0.0)[:, None] * 0 + 1")

TORCH_ONLY = """
import torch
def custom_kernel(data):
    x, mask, w, config = data
    norm = torch.nn.functional.layer_norm
    x = norm(x, x.shape[-1:], w["norm.weight"], w["norm.bias"])
    on = lambda name: x @ w[name + ".weight"].T
    mask = mask[..., None].float()
    left = on("left_proj") * mask * on("left_gate").sigmoid()
    right = on("right_proj") * mask * on("right_gate").sigmoid()
    y = torch.einsum("bikd,bjkd->bijd", left, right)
    y = norm(y, y.shape[-1:], w["to_out_norm.weight"], w["to_out_norm.bias"]) * on("out_gate").sigmoid()
    return y @ w["to_out.weight"].T
"""

HUNGRY = """
import torch
held = []
def custom_kernel(data):
    while True:
        held.append(torch.ones(1 << 26))
"""
FLOOD = """
import os
def custom_kernel(data):
    for _ in range(1024):
        os.write(1, b"x" * (1 << 20))
    return data[0].clone()
"""
FORK = """
import os, time
def custom_kernel(data):
    if os.fork() == 0:
        time.sleep(1000)
    return data[0].clone()
"""


@pytest.mark.parametrize(
    ("source", "failure"),
    [
        ("def custom_kernel(data:\n", FailureClass.SYNTAX_ERROR),
        ("x = 1\n", FailureClass.NO_CUSTOM_KERNEL),
        ("raise RuntimeError('no')\n", FailureClass.IMPORT_ERROR),
        ("def custom_kernel(data):\n    return data[0] / 0 + undefined\n", FailureClass.CRASH),
        ("import os\ndef custom_kernel(data):\n    os._exit(0)\n", FailureClass.EXITED),
        ("import sys\nsys.exit(0)\n", FailureClass.IMPORT_ERROR),
        (HUNGRY, FailureClass.MEMORY),
        (FLOOD, FailureClass.TOO_MUCH_OUTPUT),
        (FORK, FailureClass.FORKED),
        ("def custom_kernel(data):\n    return [data[0]]\n", FailureClass.BAD_OUTPUT),
        ("def custom_kernel(data):\n    return data[0].double()\n", FailureClass.BAD_OUTPUT),
        ("def custom_kernel(data):\n    return data[0] * float('nan')\n", FailureClass.BAD_OUTPUT),
        ("def custom_kernel(data):\n    return data[0]\n", FailureClass.BAD_OUTPUT),
        ("def custom_kernel(data):\n    return data[0].clone()\n", FailureClass.WRONG_RESULT),
        ("def custom_kernel(data):\n    return 'x' * (1 << 40)\n", FailureClass.MEMORY),
        (UNMASKED, FailureClass.WRONG_RESULT),
        (SOURCE.replace("tl.rsqrt(", "tl.sqrt("), FailureClass.WRONG_RESULT),
        (TORCH_ONLY, FailureClass.NO_TRITON_KERNEL),
    ],
    ids=range(18),
)
async def test_a_bad_source_is_rejected_with_its_own_reason(verifier, source, failure):
    report = await verifier.verify(source, VARIANT)
    assert report.status is Status.REJECTED
    assert report.failure_class is failure, report.reasons
    assert report.reasons[0].startswith(str(failure))
    assert report.time_us is None


READING = """

plain = custom_kernel


def custom_kernel(data):
    if data[1][-1, -1].item() == 0:
        raise ValueError("the weight has no values")
    return plain(data)
"""


async def test_a_large_weight_has_its_values_where_a_time_is_estimated(verifier):
    matmul = find_problem("matmul")
    parameters = {"m": 4095, "n": 4096, "k": 4001, "activation": "relu"}
    variant = matmul.tests()[0].model_copy(update={"parameters": parameters})
    report = await verifier.estimate(matmul.seed_source() + READING, variant)
    assert report.accepted, report.reasons
    assert report.launches[0].programs > 0


async def test_a_hang_is_a_timeout_and_takes_its_children_along(tmp_path):
    hang = "import os, time\ndef custom_kernel(data):\n    os.fork()\n    while True: time.sleep(1)\n"
    verifier = Verifier(default_sandbox(), tmp_path, limits=ChildLimits(seconds=3))
    try:
        hung, fine = await asyncio.gather(
            verifier.verify(hang, VARIANT),
            verifier.verify("def custom_kernel(data):\n    return data[0].clone()\n", VARIANT),
        )
    finally:
        await verifier.close()
    assert hung.failure_class is FailureClass.TIMEOUT
    assert fine.failure_class is FailureClass.WRONG_RESULT


KERNELS = """
import triton
import triton.language as tl

@triton.jit
def ragged(x_ptr, y_ptr, N: tl.constexpr):
    row = tl.program_id(0)
    total = tl.zeros([N], tl.float32)
    for k in range(0, row + 1):
        total += tl.load(x_ptr + k * N + tl.arange(0, N))
    if row == 1:
        total = total * 2
    tl.store(y_ptr + row * N + tl.arange(0, N), total)

@triton.jit
def matmul(a_ptr, b_ptr, c_ptr, n, M: tl.constexpr, K: tl.constexpr):
    i = tl.program_id(1) * M + tl.arange(0, M)
    j = tl.program_id(0) * M + tl.arange(0, M)
    k = tl.arange(0, K)
    total = tl.zeros([M, M], tl.float32)
    for start in range(0, n, K):
        a = tl.load(a_ptr + i[:, None] * n + start + k[None, :])
        total = tl.dot(a, tl.load(b_ptr + (start + k)[:, None] * n + j[None, :]), total)
    tl.store(c_ptr + i[:, None] * n + j[None, :], total)
"""

CHECK = """
import sys; sys.path.insert(0, {folder!r})
import torch
from pawl.kernels.inside import interpret, counting
interpret.install()
import toy
x, y = torch.randn(5, 8), torch.zeros(5, 8)
toy.ragged[(5,)](x, y, N=8)
expected = x.cumsum(0)
expected[1] *= 2
assert torch.allclose(y, expected, atol=1e-6), (y, expected)
n = 256
pointer = lambda i: {{"t": i, "offset": 0, "dtype": "float16", "sizes": [n, n], "strides": [n, 1]}}
launch = {{
    "kernel": "matmul", "grid": [4, 4, 1], "constexprs": {{"M": 64, "K": 32}},
    "arguments": {{"a_ptr": pointer(0), "b_ptr": pointer(1), "c_ptr": pointer(2), "n": {{"value": n}}}},
}}
found = counting.count(toy.matmul, launch)
moved = {{(a["tensor"], a["kind"]): 0 for a in found["accesses"]}}
for a in found["accesses"]:
    moved[a["tensor"], a["kind"]] += a["bytes"]
assert abs(found["dots"]["fp16"] - 2 * 64 * 64 * n) < 1, found["dots"]
assert abs(found["trips"] - n / 32) < 1e-6
assert moved == {{(0, "load"): 64 * n * 2, (1, "load"): 64 * n * 2, (2, "store"): 64 * 64 * 2}}, moved
shared = {{a["tensor"]: a["sharing"] for a in found["accesses"]}}
assert shared[0] < 0.4 and shared[1] < 0.4 and shared[2] == 1, shared
print("ok")
"""


async def test_interpreted_programs_may_part_and_counts_are_those_of_the_textbook(tmp_path):
    (tmp_path / "toy.py").write_text(KERNELS)
    code = CHECK.format(folder=str(tmp_path))
    environment = {"TRITON_INTERPRET": "1", "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout == "ok\n", done.stderr
