"""A launch is counted with what its small tensors hold, and may touch nothing but its storages at its own size."""

import pytest
import pytest_asyncio

from pawl.kernels import FailureClass, Variant, Verifier
from pawl.kernels.extract import extract_kernels
from pawl.kernels.known import written_parameters
from pawl.safety.sandbox import default_sandbox

pytestmark = pytest.mark.asyncio(loop_scope="module")

VARIANT = Variant(problem="softmax", parameters={"rows": 16_384, "columns": 2048})

HEAD = """
import torch
import triton
import triton.language as tl
"""
PLAIN = (
    HEAD
    + """
@triton.jit
def softmax(x_ptr, y_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * columns + column, mask=column < columns, other=float("-inf"))
    e = tl.exp(x - tl.max(x, 0))
    tl.store(y_ptr + row * columns + column, e / tl.sum(e, 0), mask=column < columns)


def custom_kernel(x):
    rows, columns = x.shape
    y = torch.empty_like(x)
    softmax[(rows,)](x, y, columns, BLOCK=triton.next_power_of_2(columns))
    return y
"""
)
ORDERED = (
    PLAIN.replace("(x_ptr, y_ptr, columns", "(x_ptr, y_ptr, order_ptr, columns")
    .replace("tl.program_id(0).to", "tl.load(order_ptr + tl.program_id(0)).to")
    .replace("](x, y, columns", "](x, y, table(rows), columns")
    + """

@triton.jit
def reverse(order_ptr, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(order_ptr + at, count - 1 - at, mask=at < count)


def by_a_kernel(rows):
    order = torch.empty(rows, dtype=torch.int32, device="cuda")
    reverse[(triton.cdiv(rows, 256),)](order, rows, BLOCK=256)
    return order


TABLES = {}


def table(rows):
    if rows not in TABLES:
        TABLES[rows] = MADE
    return TABLES[rows]
"""
)
TABLES = {
    "a list": "torch.tensor(list(range(rows))[::-1], dtype=torch.int16, device='cuda')",
    "operators": "torch.argsort(torch.arange(rows, device='cuda') * 7 % 13, stable=True)",
    "a kernel": "by_a_kernel(rows)",
}

TOO_SMALL = PLAIN.replace(
    "    return y\n",
    """    z = torch.empty(rows * columns if rows < 1000 else 1024, dtype=x.dtype, device=x.device)
    softmax[(rows,)](x, z, columns, BLOCK=triton.next_power_of_2(columns))
    return y + z[0] * 0
""",
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def verifier(tmp_path_factory):
    verifier = Verifier(default_sandbox(), tmp_path_factory.mktemp("verifications"))
    yield verifier
    await verifier.close()


@pytest.mark.parametrize("made", TABLES.values(), ids=TABLES)
async def test_rows_in_the_order_of_a_table_cost_as_much_as_in_their_own(verifier, made):
    plain = (await verifier.verify(PLAIN, VARIANT)).launches[-1]
    report = await verifier.verify(ORDERED.replace("MADE", made), VARIANT)
    assert report.accepted, report.reasons
    (launch,) = report.launches  # the table is there already in a warm call
    assert launch.time_us == pytest.approx(plain.time_us, rel=0.02)


async def test_a_storage_that_is_too_small_at_the_size_that_is_timed_is_refused(verifier):
    report = await verifier.estimate(TOO_SMALL, VARIANT)
    assert report.failure_class is FailureClass.OUT_OF_BOUNDS, report.reasons
    assert "at this size" in report.reasons[0]


WRITES = (
    HEAD
    + """
@triton.jit
def put(p, v):
    tl.store(p, v)

@triton.jit
def stored(a, b, c):
    at = b + tl.load(a)
    tl.store(at, tl.load(c))

@triton.jit
def passed_on(a, b):
    here = a
    here += 1
    put(here, tl.load(b))

@triton.jit
def added(a, b):
    tl.atomic_add(pointer=a + tl.program_id(0), val=tl.load(b))

@triton.jit
def described(a, b):
    desc = tl.make_tensor_descriptor(a, [64], [1], [64])
    desc.store([0], tl.load(b + tl.arange(0, 64)))
"""
)


@pytest.mark.parametrize(
    ("kernel", "written"), [("stored", "b"), ("passed_on", "a"), ("added", "a"), ("described", "a")]
)
async def test_a_kernel_writes_where_its_stores_point(kernel, written):
    modules = extract_kernels(WRITES).modules
    found = written_parameters(modules[kernel], kernel)
    assert found is not None
    assert found & {"a", "b", "c"} == {written}


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("X: tl.constexpr = float('-inf')", "float('-inf')"),
        ("X = tl.constexpr(math.log2(math.e))", "1.4426950408889634"),
        ("A = 3\nX = 2**A / -4 + A // 2", "-1.0"),
        ("X = 'ieee'", "'ieee'"),
        ("X = [1, 2]", "[1, 2]"),
    ],
)
async def test_a_kernel_may_name_what_its_module_works_out(said, meant):
    found = extract_kernels(f"{HEAD}import math\n{said}\n@triton.jit\ndef k(p):\n    tl.store(p, X)\n")
    assert f"X = tl.constexpr({meant})" in found.modules["k"]


@pytest.mark.parametrize(
    "said", ["X = open('x')", "X = 2**1000", "X = 1 / 0", "X = [1]\nX = X + X", "X = 1\nX = f()", "X = 'a' * 10**9"]
)
async def test_a_kernel_may_not_name_what_takes_running_the_module(said):
    found = extract_kernels(f"{HEAD}{said}\n@triton.jit\ndef k(p):\n    tl.store(p, X)\n")
    assert "'X' is neither" in found.refused["k"]
