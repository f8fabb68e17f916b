"""Run by test_kernels_interpreter.py in a process that interprets: numbers come out as torch and a GPU have them."""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from pawl.kernels.inside import formats, interpret

interpret.install()
NARROW = [torch.bfloat16, torch.float16]


def values(count, dtype, seed=0, scale=3.0):
    drawn = torch.randn(count, generator=torch.Generator().manual_seed(seed)) * scale
    drawn[:6] = torch.tensor([0.0, -0.0, 1.0, float("inf"), float("-inf"), float("nan")])
    return drawn.to(dtype)


def same(got, want):
    assert got.dtype == want.dtype
    torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)


@triton.jit
def binary(x_ptr, y_ptr, out_ptr, n, OP: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i, mask=i < n, other=1.0)
    y = tl.load(y_ptr + i, mask=i < n, other=1.0)
    if OP == "add":
        z = x + y
    elif OP == "sub":
        z = x - y
    elif OP == "mul":
        z = x * y
    elif OP == "div":
        z = x / y
    elif OP == "max":
        z = tl.maximum(x, y)
    elif OP == "min":
        z = tl.minimum(x, y)
    elif OP == "where":
        z = tl.where(x > y, x, -y)
    elif OP == "fma":
        z = tl.fma(x, y, x)
    elif OP == "abs":
        z = tl.abs(x)
    elif OP == "clamp":
        z = tl.clamp(x, -1.0, 1.0)
    elif OP == "literal":
        z = x * 1.7 + 0.3
    elif OP == "exp":
        z = tl.exp(x.to(tl.float32))
    elif OP == "sigmoid":
        z = tl.sigmoid(x.to(tl.float32))
    elif OP == "rsqrt":
        z = tl.rsqrt(tl.abs(y.to(tl.float32)) + 1)
    elif OP == "less":
        z = (x < y).to(tl.float32)
    tl.store(out_ptr + i, z, mask=i < n)


TORCH = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "max": torch.fmax,
    "min": torch.fmin,
    "where": lambda x, y: torch.where(x > y, x, -y),
    "abs": lambda x, y: x.abs(),
    "literal": lambda x, y: x * torch.tensor(1.7, dtype=x.dtype) + torch.tensor(0.3, dtype=x.dtype),
    "fma": lambda x, y: (x.double() * y.double() + x.double()).to(x.dtype),
    "exp": lambda x, y: x.float().exp().to(x.dtype),
    "sigmoid": lambda x, y: x.float().sigmoid().to(x.dtype),
    "rsqrt": lambda x, y: (y.float().abs() + 1).rsqrt().to(x.dtype),
    "less": lambda x, y: (x < y).to(x.dtype),
}


@pytest.mark.parametrize("dtype", NARROW, ids=str)
@pytest.mark.parametrize("op", TORCH)
def test_elementwise_operations_round_as_torch_does(op, dtype):
    x, y = values(3000, dtype), values(3000, dtype, seed=1).flip(0)
    out = torch.zeros(3000, dtype=dtype)
    binary[(12,)](x, y, out, 3000, OP=op, BLOCK=256)
    want = TORCH[op](x, y)
    if op in ("exp", "sigmoid", "rsqrt"):  # fp32 functions differ in the last place
        wrong = ~((out == want) | (out.isnan() & want.isnan()))
        assert wrong.float().mean() < 2e-3
        torch.testing.assert_close(out, want, rtol=1e-2, atol=0, equal_nan=True)
    else:
        same(out, want)


@triton.jit
def convert(x_ptr, out_ptr, MODE: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i)
    if MODE == "bits":
        tl.store(out_ptr + i, x.to(out_ptr.dtype.element_ty, bitcast=True))
    elif MODE == "rtz":
        tl.store(out_ptr + i, x.to(out_ptr.dtype.element_ty, fp_downcast_rounding="rtz"))
    else:
        tl.store(out_ptr + i, x.to(out_ptr.dtype.element_ty))


def converted(x, dtype, mode="round"):
    out = torch.zeros(len(x), dtype=dtype)
    convert[(len(x) // 64,)](x, out, MODE=mode, BLOCK=64)
    return out


@pytest.mark.parametrize("source", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("target", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_casts_between_floats_round_to_nearest_even(source, target):
    x = values(4096, source, scale=1e3)
    x[6:2048] = values(2042, source, scale=1e-7)
    same(converted(x, target), x.to(target))


def test_a_cast_from_fp64_rounds_once():
    halfway = 1 + 2.0**-8  # between two bf16; a bit above, which fp32 can't hold, decides
    x = torch.full((64,), halfway + 2.0**-40, dtype=torch.float64)
    assert (converted(x, torch.bfloat16).double() == 1 + 2.0**-7).all()
    assert (converted(torch.full((64,), halfway, dtype=torch.float64), torch.bfloat16).double() == 1).all()


def test_integers_and_narrow_floats_convert_as_the_gpu_does():
    x = torch.arange(-32768, 32768, dtype=torch.int32) * 37
    same(converted(x, torch.bfloat16), x.double().to(torch.bfloat16))
    y = values(4096, torch.bfloat16, scale=60.0)
    finite = y.isfinite()
    same(converted(y, torch.int32)[finite], y.to(torch.int32)[finite])
    assert converted(y, torch.int32)[3:6].tolist() == [2**31 - 1, -(2**31), 0]  # saturating, NaN to 0


def test_bits_survive_casts_of_bits_and_copies():
    bits = torch.arange(-32768, 32768, dtype=torch.int16)
    for dtype in NARROW:
        numbers = bits.view(dtype)
        copied = torch.zeros_like(numbers)
        convert[(1024,)](numbers, copied, MODE="round", BLOCK=64)
        ordinary = ~numbers.isnan()
        assert (copied.view(torch.int16) == bits)[ordinary].all()
        assert copied[~ordinary].isnan().all()
        assert (converted(numbers, torch.int16, "bits") == bits)[ordinary].all()


def test_rounding_towards_zero_never_grows():
    x = values(4096, torch.float32)[6:4038]
    x = torch.cat([x, x[:64]])
    for dtype in NARROW:
        got = converted(x, dtype, "rtz").float()
        assert (got.abs() <= x.abs()).all()
        assert ((x - got).abs() < x.abs() * (2**-7 if dtype == torch.bfloat16 else 2**-10)).all()


@pytest.mark.parametrize(
    ("dtype", "largest"), [(torch.float8_e4m3fn, 448.0), (torch.float8_e5m2, 57344.0)], ids=["e4m3", "e5m2"]
)
def test_fp8_rounds_as_torch_and_saturates_as_the_gpu(dtype, largest):
    for source in (torch.float32, torch.bfloat16, torch.float16):
        x = values(4096, source, scale=20.0)
        x[6:2048] = values(2042, source, seed=2, scale=1e-2)[:2042]
        bounded = x.float().clamp(-largest, largest)
        same(converted(x, dtype).float(), bounded.to(dtype).float())
    every = torch.arange(256, dtype=torch.uint8).view(dtype)
    for target in (torch.float32, torch.bfloat16, torch.float16):
        same(converted(every, target), every.float().to(target))


@triton.jit
def product(a_ptr, b_ptr, c_ptr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, PRECISION: tl.constexpr,
            OUT: tl.constexpr):  # fmt: skip
    base = tl.program_id(0)
    m, n, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    a = tl.load(a_ptr + base * M * K + m[:, None] * K + k[None, :])
    b = tl.load(b_ptr + k[:, None] * N + n[None, :])
    c = tl.dot(a, b, input_precision=PRECISION, out_dtype=OUT)
    tl.store(c_ptr + base * M * N + m[:, None] * N + n[None, :], c)


def multiplied(a, b, precision="tf32", out=torch.float32):
    c = torch.zeros(a.shape[0], a.shape[1], b.shape[1], dtype=out)
    kind = {torch.float32: tl.float32, torch.float16: tl.float16, torch.int32: tl.int32, torch.float64: tl.float64}
    product[(a.shape[0],)](
        a, b, c, M=a.shape[1], N=b.shape[1], K=a.shape[2], PRECISION=precision, OUT=kind[out]
    )  # fmt: skip
    return c


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
def test_a_narrow_product_is_summed_in_fp32(dtype):
    a = torch.randn(3, 32, 64).to(dtype)
    b = torch.randn(64, 16).to(dtype)
    want = a.double() @ b.double()
    torch.testing.assert_close(multiplied(a, b).double(), want, rtol=1e-5, atol=1e-5)


def test_a_product_in_fp16_rounds_its_sum():
    a, b = torch.randn(2, 16, 32).half(), torch.randn(32, 16).half()
    same(multiplied(a, b, out=torch.float16), (a.float() @ b.float()).half())


def test_tf32_drops_the_low_bits_of_operands_and_the_other_precisions_do_not():
    a, b = torch.randn(2, 32, 64), torch.randn(64, 16)
    kept = torch.tensor(-(2**13), dtype=torch.int32)
    cut = [(x.view(torch.int32) & kept).view(torch.float32).double() for x in (a, b)]
    exact = a.double() @ b.double()
    torch.testing.assert_close(multiplied(a, b).double(), cut[0] @ cut[1], rtol=1e-5, atol=1e-5)
    assert (multiplied(a, b).double() - exact).abs().max() > 1e-4
    for precision, error in (("ieee", 1e-5), ("tf32x3", 1e-5), ("bf16x6", 1e-5), ("bf16x3", 1e-3)):
        assert (multiplied(a, b, precision).double() - exact).abs().max() < error
    assert (multiplied(a, b, "bf16x3").double() - exact).abs().max() > 1e-6


def test_int8_and_fp64_products_are_exact():
    a, b = torch.randint(-128, 128, (2, 32, 64)).to(torch.int8), torch.randint(-128, 128, (64, 32)).to(torch.int8)
    same(multiplied(a, b, out=torch.int32), a.int() @ b.int())
    x, y = torch.randn(1, 16, 16).double(), torch.randn(16, 16).double()
    torch.testing.assert_close(multiplied(x, y, out=torch.float64), x @ y, rtol=1e-14, atol=1e-14)


@triton.jit
def reduced(x_ptr, total_ptr, most_ptr, where_ptr, running_ptr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    at = row[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    x = tl.load(x_ptr + at)
    tl.store(total_ptr + row, tl.sum(x, 1))
    tl.store(most_ptr + row, tl.max(x, 1))
    tl.store(where_ptr + row, tl.argmax(x, 1))
    tl.store(running_ptr + at, tl.cumsum(x, 1))


@pytest.mark.parametrize("dtype", [*NARROW, torch.float32], ids=str)
def test_reductions_and_scans(dtype):
    x = torch.randn(32, 64, generator=torch.Generator().manual_seed(4)).to(dtype)
    total, most, running = torch.zeros(32, dtype=dtype), torch.zeros(32, dtype=dtype), torch.zeros_like(x)
    where = torch.zeros(32, dtype=torch.int32)
    reduced[(4,)](x, total, most, where, running, ROWS=8, COLUMNS=64)
    same(most, x.max(1).values)
    assert (x.gather(1, where[:, None].long())[:, 0] == most).all()
    # Each of the six additions of the tree rounds once.
    eps = torch.finfo(dtype).eps
    assert ((total.double() - x.double().sum(1)).abs() <= 4 * eps * x.double().abs().sum(1)).all()
    assert ((running.double() - x.double().cumsum(1)).abs() <= 4 * eps * x.double().abs().cumsum(1)).all()
    if dtype != torch.float32:
        pairs = x
        while pairs.shape[1] > 1:
            pairs = pairs[:, 0::2] + pairs[:, 1::2]
        same(total, pairs[:, 0])


@triton.jit
def scattered(x_ptr, at_ptr, out_ptr, old_ptr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(old_ptr + i, tl.atomic_add(out_ptr + tl.load(at_ptr + i), tl.load(x_ptr + i)))


@pytest.mark.parametrize("dtype", [*NARROW, torch.float32, torch.int32], ids=str)
def test_atomic_additions_round_each_time_and_return_what_was_there(dtype):
    x = (torch.randn(128, generator=torch.Generator().manual_seed(5)) * 10).to(dtype)
    at = torch.randint(0, 5, (128,), generator=torch.Generator().manual_seed(6)).int()
    out, old = torch.zeros(5, dtype=dtype), torch.zeros(128, dtype=dtype)
    scattered[(4,)](x, at, out, old, BLOCK=32)
    sums, before = torch.zeros(5, dtype=dtype), torch.zeros(128, dtype=dtype)
    for i, place in enumerate(at.tolist()):
        before[i] = sums[place]
        sums[place] = sums[place] + x[i]
    same(out, sums)
    same(old, before)


@triton.jit
def scaled(x_ptr, out_ptr, scale, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out_ptr + i, tl.load(x_ptr + i) * scale)


def test_a_scalar_argument_widens_and_a_literal_does_not():
    x = values(64, torch.bfloat16)
    out = torch.zeros(64, dtype=torch.float32)
    scaled[(1,)](x, out, 0.1, BLOCK=64)
    same(out, x.float() * torch.tensor(0.1))


@triton.jit
def layer_norm_bf16(x_ptr, w_ptr, y_ptr, dim, eps, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * dim + column, mask=column < dim, other=0.0).to(tl.float32)
    mean = tl.sum(x, 0) / dim
    centred = tl.where(column < dim, x - mean, 0.0)
    y = centred * tl.rsqrt(tl.sum(centred * centred, 0) / dim + eps)
    w = tl.load(w_ptr + column, mask=column < dim, other=0.0)
    tl.store(y_ptr + row * dim + column, (y * w).to(tl.bfloat16), mask=column < dim)


def test_a_whole_bf16_kernel_agrees_with_torch():
    x, w = torch.randn(300, 100).bfloat16(), torch.randn(100).bfloat16()
    y = torch.zeros_like(x)
    layer_norm_bf16[(300,)](x, w, y, 100, 1e-5, BLOCK=128)
    want = torch.nn.functional.layer_norm(x.float(), (100,), w.float()).bfloat16()
    assert (y != want).float().mean() < 1e-2  # ties of fp32 sums in another order
    torch.testing.assert_close(y, want, rtol=1e-2, atol=1e-4)


def test_rounding_agrees_with_torch_on_any_bits():
    bits = np.random.default_rng(0).integers(0, 2**32, 1 << 18, dtype=np.uint64).astype(np.uint32)
    x = bits.view(np.float32)
    with np.errstate(all="ignore"):
        for kind, dtype in ((tl.bfloat16, torch.bfloat16), (tl.float16, torch.float16)):
            want = torch.from_numpy(x).to(dtype).float()
            for size in (len(x), 100):  # large and small arrays take different ways
                same(torch.from_numpy(formats.round_to(x[:size], kind)), want[:size])


@triton.jit
def scaled_product(a_ptr, s_ptr, b_ptr, c_ptr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    m, n, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    a = tl.load(a_ptr + tl.program_id(0) * M * K + m[:, None] * K + k[None, :])
    s = tl.load(s_ptr + m[:, None] * (K // 32) + tl.arange(0, K // 32)[None, :])
    b = tl.load(b_ptr + k[:, None] * N + n[None, :])
    c = tl.dot_scaled(a, s, "e4m3", b, None, "bf16")
    tl.store(c_ptr + tl.program_id(0) * M * N + m[:, None] * N + n[None, :], c)


def test_a_scaled_product_multiplies_each_group_by_its_power_of_two():
    a, b = torch.randn(3, 32, 64).to(torch.float8_e4m3fn), torch.randn(64, 16).bfloat16()
    scale = torch.randint(120, 135, (32, 2), dtype=torch.uint8)
    c = torch.zeros(3, 32, 16)
    scaled_product[(3,)](a, scale, b, c, M=32, N=16, K=64)
    factors = 2.0 ** (scale.double() - 127).repeat_interleave(32, dim=1)
    torch.testing.assert_close(c.double(), (a.double() * factors) @ b.double(), rtol=1e-4, atol=1e-3)
