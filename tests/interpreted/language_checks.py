"""Run by test_kernels_interpreter.py in a process that interprets: the language, divergence, bounds, races."""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from triton.language import load as taken
from triton.language.extra import libdevice
from triton.language.extra.libdevice import tanh
from triton.language.math import rsqrt
from triton.runtime.interpreter import InterpretedFunction
from triton.tools.tensor_descriptor import TensorDescriptor

from pawl.kernels.inside import interpret
from pawl.kernels.inside.interpret import (
    BoundsObserver,
    Observer,
    OutOfBounds,
    Stuck,
    Unsupported,
    run_launch,
)

FOUR: tl.constexpr = tl.constexpr(4)
STOCK = InterpretedFunction.run, InterpretedFunction.__call__
interpret.install()


def both(monkeypatch, kernel, grid, make, **constexprs):
    """What the kernel leaves in its tensors, here and in Triton's own interpreter, which runs one program at a time."""
    ours, theirs = make(), make()
    kernel[grid](*ours, **constexprs)
    with monkeypatch.context() as patch:
        patch.setattr(InterpretedFunction, "run", STOCK[0])
        patch.setattr(InterpretedFunction, "__call__", STOCK[1])
        kernel[grid](*theirs, **constexprs)
    for mine, other in zip(ours, theirs, strict=True):
        if isinstance(mine, torch.Tensor):
            torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-6, equal_nan=True)
    return ours


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@triton.jit
def shapes(x_ptr, out_ptr, N: tl.constexpr):
    pid = tl.program_id(0)
    i = tl.arange(0, N)
    x = tl.load(x_ptr + pid * N + i)
    left, right = tl.split(tl.reshape(x, (N // 2, 2)))
    woven = tl.interleave(right, left)
    flipped = tl.flip(x)
    joined = tl.reshape(tl.trans(tl.join(x, woven)), (2 * N,))
    table = tl.reshape(x, (4, N // 4))
    turned = tl.reshape(table.T, (N,)) + tl.ravel(tl.permute(table, (1, 0)))
    picked = tl.gather(x, (i * 7) % N, 0)
    wide = tl.broadcast_to(x[:, None], (N, 4))
    tl.store(out_ptr + pid * 7 * N + i, flipped + picked)
    tl.store(out_ptr + pid * 7 * N + N + tl.arange(0, 2 * N), joined)
    tl.store(out_ptr + pid * 7 * N + 3 * N + i, turned)
    tl.store(out_ptr + pid * 7 * N + 4 * N + i, tl.sum(wide, 1))
    tl.store(out_ptr + pid * 7 * N + 5 * N + tl.arange(0, 2 * 16), tl.sort(tl.cat(x, x, can_reorder=True)), mask=True)


def test_shapes_sorting_and_gathering(monkeypatch):
    both(monkeypatch, shapes, (5,), lambda: [random(80), torch.zeros(5 * 112)], N=16)


@triton.jit
def _larger_of(a, ai, b, bi):
    keep = (a > b) | ((a == b) & (ai < bi))
    return tl.where(keep, a, b), tl.where(keep, ai, bi)


@triton.jit
def _affine(a1, b1, a2, b2):
    return a1 * a2, b1 * a2 + b2


@triton.jit
def combined(x_ptr, f_ptr, i_ptr, N: tl.constexpr):
    pid = tl.program_id(0)
    r, c = tl.arange(0, 4), tl.arange(0, N)
    x = tl.load(x_ptr + pid * 4 * N + r[:, None] * N + c[None, :])
    most, where = tl.reduce((x, tl.broadcast_to(c[None, :], (4, N))), 1, _larger_of)
    low, place = tl.min(x, 1, return_indices=True)
    a, b = tl.associative_scan((x, x), 1, _affine)
    _, back = tl.associative_scan((x, x), 1, _affine, reverse=True)
    out = f_ptr + pid * 64 * N
    at = r[:, None] * N + c[None, :]
    tl.store(out + at, a)
    tl.store(out + 4 * N + at, b)
    tl.store(out + 8 * N + at, back)
    tl.store(out + 12 * N + at, tl.cumprod(x, 1) + tl.cumsum(x, 0, reverse=True))
    tl.store(out + 16 * N + r, most + low)
    tl.store(out + 16 * N + 4, tl.max(x) + tl.sum(tl.sum(x, 0), 0))
    tl.store(i_ptr + pid * 16 + r, where * 100 + place)
    tl.store(i_ptr + pid * 16 + 4 + r, tl.argmax(x, 1) * 100 + tl.argmin(x, 1))
    tl.store(i_ptr + pid * 16 + 8 + r, tl.xor_sum((x * 100).to(tl.int32), 1))
    tl.store(i_ptr + pid * 16 + 12 + r, tl.sum((x > 0).to(tl.int8), 1))


def test_reductions_and_scans_with_any_combine_function(monkeypatch):
    def make():
        return [random(3 * 4 * 16), torch.zeros(3 * 64 * 16), torch.zeros(3 * 16, dtype=torch.int32)]

    both(monkeypatch, combined, (3,), make, N=16)


@triton.jit
def counted(x_ptr, out_ptr, n, BINS: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i, mask=i < n, other=0)
    tl.store(out_ptr + tl.program_id(0) * BINS + tl.arange(0, BINS), tl.histogram(x, BINS, mask=i < n))


def test_histograms():
    x = torch.randint(0, 8, (100,), dtype=torch.int32)
    out = torch.zeros(4, 8, dtype=torch.int32)
    counted[(4,)](x, out, 100, BINS=8, BLOCK=32)
    want = [torch.bincount(part, minlength=8) for part in x.split(32)]
    assert out.tolist() == torch.stack(want).tolist()


@triton.jit
def drawn(out_ptr, seed, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + i, tl.rand(seed, i) + tl.randn(seed, i))


def test_random_numbers_are_tritons(monkeypatch):
    both(monkeypatch, drawn, (4,), lambda: [torch.zeros(128), 1234], BLOCK=32)


@triton.jit
def mathematics(x_ptr, out_ptr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i)
    y = tl.erf(x) + tl.exp2(x) + tl.log(tl.abs(x) + 1) + tl.sin(x) * tl.cos(x) + tl.floor(x) + tl.ceil(x)
    y += tl.sqrt_rn(tl.abs(x)) + tl.div_rn(x, 3.0) + tl.fma(x, x, x) + tl.math.log2(tl.abs(x) + 2)
    whole = (x * 10).to(tl.int32)
    y += ((whole // 3) * 7 + whole % 3 + (whole >> 1) + (whole << 2) - (whole ^ 5) + (whole & 3) * (whole | 1)) * 0.01
    y += tl.umulhi(whole.to(tl.uint32, bitcast=True), 12345).to(tl.float32) * 1e-3 + tl.cdiv(whole, 4) * 0.5
    tl.store(out_ptr + i, y)


def test_mathematics(monkeypatch):
    both(monkeypatch, mathematics, (4,), lambda: [random(256), torch.zeros(256)], BLOCK=64)


@triton.jit
def from_library(x_ptr, out_ptr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i)
    y = libdevice.tanh(x) + libdevice.fast_expf(x) + libdevice.pow(tl.abs(x), 1.5) + libdevice.rsqrt(tl.abs(x) + 1)
    tl.store(out_ptr + i, tl.where(libdevice.isnan(x), 0.0, y + libdevice.erf(x)))


def test_functions_of_libdevice():
    x, out = random(256), torch.zeros(256)
    from_library[(4,)](x, out, BLOCK=64)
    want = x.tanh() + x.exp() + x.abs() ** 1.5 + (x.abs() + 1).rsqrt() + x.erf()
    torch.testing.assert_close(out, want, rtol=1e-5, atol=1e-5)


@triton.jit
def parting(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    pid = tl.program_id(0)
    if pid * BLOCK >= n:
        return
    i = pid * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    for k in range(pid + 1):
        total += tl.load(x_ptr + k * BLOCK + tl.arange(0, BLOCK))
    tl.store(out_ptr + i, total)
    if pid % 2 == 0 and not (pid == 2):  # noqa: SIM201
        tl.store(out_ptr + i, tl.load(out_ptr + i) * 2)
    left = pid
    while left > 0:
        tl.store(out_ptr + i, tl.load(out_ptr + i) + 1)
        left -= 2
    for k in tl.range(2, num_stages=2):
        for m in tl.static_range(2):
            tl.store(out_ptr + i, tl.load(out_ptr + i) + (k + m if pid > 3 else 0.5))


@pytest.mark.parametrize("order", [None, 1, 2])
def test_programs_that_go_different_ways_each_go_their_own(monkeypatch, order):
    ours = random(9 * 8), torch.zeros(72)
    launched = run_launch(parting, {"x_ptr": ours[0], "out_ptr": ours[1], "n": 64, "BLOCK": 8}, (9, 1, 1), Observer(),
                          order)  # fmt: skip
    assert not launched.spins
    monkeypatch.setattr(InterpretedFunction, "run", STOCK[0])
    monkeypatch.setattr(InterpretedFunction, "__call__", STOCK[1])
    want = torch.zeros(72)
    parting[(9,)](ours[0], want, 64, BLOCK=8)
    torch.testing.assert_close(ours[1], want)


class Recording(Observer):
    """Notes what happens, and forgets what is undone."""

    def __init__(self):
        self.kept, self.now = [], []

    def begin(self, ids):
        self.kept += self.now
        self.now = []

    def discard(self):
        self.now = []

    def load(self, pointers, mask, other, dtype):
        self.now.append(("load", int(np.broadcast_to(mask, pointers.data.shape).sum())))
        return super().load(pointers, mask, other, dtype)

    def store(self, pointers, value, mask):
        self.now.append(("store", int(mask.sum())))
        super().store(pointers, value, mask)

    def atomic(self, pointers, mask, dtype, perform):
        self.now.append(("atomic", int(mask.sum())))
        return super().atomic(pointers, mask, dtype, perform)

    def dot(self, a, b, shape, precision):
        self.now.append(("dot", len(a.data)))

    def count(self, kind):
        return sum(number for what, number in self.kept + self.now if what == kind)


def test_an_observer_sees_every_access_once_also_of_programs_that_part():
    seen = Recording()
    run_launch(parting, {"x_ptr": random(72), "out_ptr": torch.zeros(72), "n": 64, "BLOCK": 8}, (9, 1, 1), seen)
    trips = sum((pid + 1) // 2 for pid in range(8))
    doubled = 3  # programs 0, 4, 6
    assert seen.count("store") == 8 * (8 + doubled + trips + 4 * 8)
    assert seen.count("load") == 8 * (sum(range(1, 9)) + doubled + trips + 4 * 8)


@triton.jit
def blocks(x, out_ptr, n, m, BM: tl.constexpr, BN: tl.constexpr):
    made = tl.make_tensor_descriptor(out_ptr, [n, m], [m, 1], [BM, BN])
    at = tl.program_id(0) * BM
    for column in range(0, m, BN):
        made.store([at, column], x.load([at, column]) * 2 + made.load([at, column]))
    made.atomic_add([at, 0], x.load([at, 0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_tensor_descriptors_clip_at_the_edges(dtype):
    x = torch.randint(-8, 8, (37, 24)).to(dtype)
    around = torch.ones(40 * 24, dtype=dtype)
    out = around[: 37 * 24].view(37, 24)
    blocks[(3,)](TensorDescriptor.from_tensor(x, [16, 16]), out, 37, 24, BM=16, BN=16)
    want = x * 2 + 1
    want[:, :16] += x[:, :16]
    torch.testing.assert_close(out, want)
    assert (around[37 * 24 :] == 1).all()


@triton.jit
def unmasked(x_ptr, out_ptr, n, SHIFT: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i + SHIFT, mask=i < n - SHIFT, other=0.0)
    tl.store(out_ptr + i, x, mask=i < n)


def regions(*tensors):
    return [(t.data_ptr(), t.nbytes) for t in tensors]


def test_accesses_outside_the_storages_are_refused_and_masked_lanes_are_free():
    x, out = random(100), torch.zeros(100)
    arguments = {"x_ptr": x, "out_ptr": out, "SHIFT": 0, "BLOCK": 64}
    run_launch(unmasked, arguments | {"n": 100}, (2, 1, 1), BoundsObserver(regions(x, out)))
    torch.testing.assert_close(out, x)
    with pytest.raises(OutOfBounds, match=r"a load of 4 bytes at 0 bytes past the end of storage 0 \(400 bytes\) by p"):
        run_launch(unmasked, arguments | {"n": 101}, (2, 1, 1), BoundsObserver(regions(x, out)))
    wide = [(x.data_ptr(), 404), (out.data_ptr(), 400)]
    with pytest.raises(OutOfBounds, match=r"a store .* past the end of storage 1"):
        run_launch(unmasked, arguments | {"n": 101}, (2, 1, 1), BoundsObserver(wide))
    with pytest.raises(OutOfBounds, match=r"a load .* 8 bytes before the start of storage 0"):
        run_launch(unmasked, arguments | {"n": 100, "SHIFT": -2}, (2, 1, 1), BoundsObserver(regions(x, out)))


def test_masked_lanes_touch_no_memory():
    # With a pointer to nothing, reading or writing would end the process.
    @triton.jit
    def nowhere(address, out_ptr, BLOCK: tl.constexpr):
        i = tl.arange(0, BLOCK)
        p = (address + i * 4).to(tl.pointer_type(tl.float32))
        x = tl.load(p, mask=i < 0, other=7.0)
        tl.store(p, x, mask=i < 0)
        tl.atomic_add(p, x, mask=i < 0)
        tl.store(out_ptr + i, x)

    globals()["nowhere"] = nowhere
    out = torch.zeros(16)
    nowhere[(1,)](1 << 44, out, BLOCK=16)
    assert (out == 7).all()


@triton.jit
def unguarded(counter_ptr):
    tl.store(counter_ptr, tl.load(counter_ptr) + 1)


@triton.jit
def guarded(counter_ptr, ticket_ptr):
    tl.store(ticket_ptr + tl.program_id(0), tl.atomic_add(counter_ptr, 1))


def test_an_unguarded_count_loses_updates_and_an_atomic_one_does_not():
    counter = torch.zeros(1, dtype=torch.int32)
    unguarded[(64,)](counter)
    assert counter.item() < 64
    counter.zero_()
    tickets = torch.zeros(300, dtype=torch.int32)
    run_launch(guarded, {"counter_ptr": counter, "ticket_ptr": tickets}, (300, 1, 1), Observer(), order=3)
    assert counter.item() == 300
    assert sorted(tickets.tolist()) == list(range(300))
    assert tickets.tolist() != list(range(300))


@triton.jit
def last_writer(out_ptr):
    tl.store(out_ptr, tl.program_id(0))


def test_a_shuffled_order_shows_what_depends_on_order():
    found = set()
    for order in (None, 1, 2, 3):
        out = torch.zeros(1, dtype=torch.int32)
        run_launch(last_writer, {"out_ptr": out}, (500, 1, 1), Observer(), order)
        found.add(out.item())
    assert len(found) > 2


@triton.jit
def locked(lock_ptr, total_ptr, x_ptr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + tl.program_id(0) * BLOCK + i)
    while tl.atomic_cas(lock_ptr, 0, 1) == 1:
        pass
    tl.store(total_ptr + i, tl.load(total_ptr + i) + x)
    tl.debug_barrier()
    tl.atomic_xchg(lock_ptr, 0)


@triton.jit
def in_turn(turn_ptr, out_ptr):
    pid = tl.program_id(0)
    while tl.atomic_add(turn_ptr, 0) != pid:
        pass
    tl.store(out_ptr + pid, tl.load(out_ptr + pid - 1, mask=pid > 0, other=0) + pid)
    tl.atomic_add(turn_ptr, 1)


def test_programs_that_wait_for_one_another_run_in_order_and_say_so():
    x, total, lock = random(40, 8), torch.zeros(8), torch.zeros(1, dtype=torch.int32)
    arguments = {"lock_ptr": lock, "total_ptr": total, "x_ptr": x, "BLOCK": 8}
    assert run_launch(locked, arguments, (40, 1, 1), BoundsObserver(regions(x, total, lock)), order=5).spins
    torch.testing.assert_close(total, x.sum(0))
    turn, out = torch.zeros(1, dtype=torch.int32), torch.zeros(30, dtype=torch.int32)
    assert run_launch(in_turn, {"turn_ptr": turn, "out_ptr": out}, (30, 1, 1), Observer(), order=5).spins
    assert out.tolist() == torch.arange(30).cumsum(0).tolist()


def test_a_program_that_waits_for_ever_is_told_from_one_that_works():
    turn, out = torch.full((1,), 7, dtype=torch.int32), torch.zeros(4, dtype=torch.int32)
    with pytest.raises(Stuck, match=r"program \(0, 0, 0\) waits"):
        run_launch(in_turn, {"turn_ptr": turn, "out_ptr": out}, (4, 1, 1), Observer())


@triton.jit
def queued(counter_ptr, out_ptr, n):
    tile = tl.atomic_add(counter_ptr, 1)
    while tile < n:
        tl.store(out_ptr + tile, tile)
        tile = tl.atomic_add(counter_ptr, 1)


def test_a_queue_of_work_is_served_whole_and_shuffled():
    counter, out = torch.zeros(1, dtype=torch.int32), torch.full((100,), -1, dtype=torch.int32)
    launched = run_launch(queued, {"counter_ptr": counter, "out_ptr": out, "n": 100}, (8, 1, 1), Observer(), order=1)
    assert not launched.spins
    assert out.tolist() == list(range(100))
    assert counter.item() == 108


@triton.jit
def with_assembly(x_ptr):
    x = tl.load(x_ptr)
    tl.store(x_ptr, tl.inline_asm_elementwise("tanh.approx.f32 $0, $1;", "=r,r", [x], dtype=tl.float32, is_pure=True,
                                              pack=1))  # fmt: skip


def test_what_cannot_be_interpreted_says_so():
    with pytest.raises(Unsupported, match="inline assembly"):
        with_assembly[(1,)](torch.zeros(1))


@triton.jit
def told(x_ptr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.static_assert(BLOCK > 1)
    tl.device_assert(tl.sum(i, 0) > 0)
    tl.assume(tl.program_id(0) >= 0)
    tl.device_print("here", tl.program_id(0))
    x = tl.load(tl.multiple_of(x_ptr, 16) + tl.max_contiguous(i, BLOCK))
    tl.store(x_ptr + i, max(x, 1.0) + min(tl.program_id(0), 5))


def test_debugging_and_hints(capfd):
    x = torch.zeros(16)
    told[(2,)](x, BLOCK=16)
    assert "here" in capfd.readouterr().out


@triton.jit
def logical(x_ptr, y_ptr, out_ptr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x, y = tl.load(x_ptr + i), tl.load(y_ptr + i)
    tl.store(out_ptr + i, (x > 0 and y > 0) or not (x < y))


def test_logical_operators_on_blocks_are_elementwise():
    x, y = random(64), random(64, seed=1)
    out = torch.zeros(64, dtype=torch.int32)
    logical[(2,)](x, y, out, BLOCK=32)
    assert out.bool().tolist() == (((x > 0) & (y > 0)) | ~(x < y)).tolist()


@triton.jit
def one_number(x_ptr, out_ptr, n):
    pid = tl.program_id(0)
    tl.store(out_ptr + pid, tl.load(x_ptr + pid, mask=pid < n, other=-1.0), mask=pid < n + 1)


def test_masks_of_single_numbers_part_nothing():
    x, out = random(100), torch.zeros(128)
    arguments = {"x_ptr": x, "out_ptr": out, "n": 100}
    assert run_launch(one_number, arguments, (128, 1, 1), BoundsObserver(regions(x, out))).batches == 1
    assert out[:101].tolist() == [*x.tolist(), -1]
    assert not out[101:].any()


@triton.jit
def swapped(p_ptr, out_ptr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + i, tl.atomic_cas(p_ptr + i % 4, i * 0, i.to(p_ptr.dtype.element_ty)))
    tl.atomic_max(p_ptr + 4 + i % 2, i.to(p_ptr.dtype.element_ty))
    tl.atomic_xchg(p_ptr + 6 + i * 0, i.to(p_ptr.dtype.element_ty), mask=i < 3)


def test_exchanges_and_comparisons_are_atomic(monkeypatch):
    def make():
        return [torch.zeros(8, dtype=torch.int32), torch.zeros(64, dtype=torch.int32)]

    both(monkeypatch, swapped, (4,), make, BLOCK=16)


@triton.jit
def spill(p_ptr, x_ptr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i)
    tl.atomic_max(p_ptr + i % 2, x)
    tl.atomic_min(p_ptr + 2 + i % 2, x)


def test_greatest_and_least_floats_are_atomic():
    x, p = random(256), torch.zeros(4)
    spill[(8,)](p, x, BLOCK=32)
    even, odd = x[0::2], x[1::2]
    assert p.tolist() == [x.item() for x in (even.max(), odd.max(), even.min(), odd.min())]


@triton.jit
def _sum_and_product(x, y=2.0):
    return x + y, x * y


@triton.jit
def assorted(x_ptr, out_ptr, strides, N: tl.constexpr, FLAG: tl.constexpr = True):
    pid = tl.program_id(0)
    c = tl.arange(0, N)
    x = tl.load(x_ptr + pid * strides[0] + c * strides[1], eviction_policy="evict_first", cache_modifier=".cg")
    a, b = _sum_and_product(x)
    y = tl.softmax(a) + b.sum(axis=0) + x.max(0, keep_dims=True)
    y += tl.topk(x, 4).sum() if FLAG else 0.0
    m = tl.reshape(x, (4, N // 4))
    left, right = tl.broadcast_to(m[:, :, None], (4, N // 4, 4)), tl.broadcast_to(m[:, None, :], (4, 4, N // 4))
    y += tl.sum(tl.dot(left, right, input_precision="ieee"))
    y += tl.where(c < 3, x, 1.0) + tl.zeros_like(x) + tl.full([N], 2, tl.float32)
    for i in tl.static_range(0, FOUR, 2):
        y += i
    i, j = tl.swizzle2d(pid, 1, 3, 4, 2)
    y += i + j * tl.num_programs(0)
    y += (pid.to(tl.int64) * 3).to(tl.float32) / 2 - (-pid) // 2 + (-pid) % 3
    y += ((x > 0).to(tl.int1) & (c % 2 == 0)) + (not FLAG) + (~c).to(tl.float32) + (x != x)
    tl.store(out_ptr + pid * N + c, -y + tl.load(x_ptr + pid, volatile=True))


def test_assorted_operations(monkeypatch):
    both(monkeypatch, assorted, (5,), lambda: [random(80), torch.zeros(80), (16, 1)], N=16)


@triton.jit
def imported(x_ptr, out_ptr, N: tl.constexpr):
    i = tl.program_id(0) * N + tl.arange(0, N)
    x = taken(x_ptr + i)
    tl.store(out_ptr + i, rsqrt(tl.abs(x)) + tanh(x))


def test_names_imported_out_of_the_language():
    x, out = random(64), torch.zeros(64)
    imported[(4,)](x, out, N=16)
    torch.testing.assert_close(out, x.abs().rsqrt() + x.tanh())


@triton.jit
def parts_added_by_the_last(x_ptr, parts_ptr, arrived_ptr, out_ptr, SPLIT: tl.constexpr, BLOCK: tl.constexpr):
    tile, part = tl.program_id(0), tl.program_id(1)
    i = tl.arange(0, BLOCK)
    at = (tile * SPLIT + part) * BLOCK + i
    tl.store(parts_ptr + at, tl.load(x_ptr + at) * 2)
    if tl.atomic_add(arrived_ptr + tile, 1) == SPLIT - 1:
        total = tl.zeros([BLOCK], tl.float32)
        for k in range(SPLIT):
            total += tl.load(parts_ptr + (tile * SPLIT + k) * BLOCK + i)
        tl.store(out_ptr + tile * BLOCK + i, total)
        tl.atomic_xchg(arrived_ptr + tile, 0)


@pytest.mark.parametrize("order", [None, 1, 2, 3])
def test_what_programs_did_before_they_parted_happens_once(order):
    x, parts, out = random(50, 6, 16), torch.full((50, 6, 16), float("nan")), torch.zeros(50, 16)
    arrived = torch.zeros(50, dtype=torch.int32)
    arguments = {"x_ptr": x, "parts_ptr": parts, "arrived_ptr": arrived, "out_ptr": out, "SPLIT": 6, "BLOCK": 16}
    run_launch(parts_added_by_the_last, arguments, (50, 6, 1), BoundsObserver(regions(x, parts, arrived, out)), order)
    torch.testing.assert_close(out, x.sum(1) * 2)
    assert not arrived.any()
