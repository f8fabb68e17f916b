"""Counting a launch from a sample of its programs: totals that can be worked out by hand come out."""

import json
import subprocess
import sys
import textwrap

import pytest

KERNELS = """
import triton
import triton.language as tl


@triton.jit
def ragged(x, y, n, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(y + at, tl.load(x + at, mask=at < n), mask=at < n)


@triton.jit
def strided(x, y, step, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(y + at, tl.load(x + at * step))


@triton.jit
def product(a, b, c, n, B: tl.constexpr, D: tl.constexpr):
    row = tl.program_id(1) * B + tl.arange(0, B)
    column = tl.program_id(0) * B + tl.arange(0, B)
    depth = tl.arange(0, D)
    total = tl.zeros([B, B], tl.float32)
    for start in tl.range(0, n, D):
        left = tl.load(a + row[:, None] * n + start + depth[None, :])
        right = tl.load(b + column[None, :] * n + start + depth[:, None])
        total = tl.dot(left, right, total)
    tl.store(c + row[:, None] * n + column[None, :], total.to(c.dtype.element_ty))


@triton.jit
def causal(q, k, o, n, B: tl.constexpr, D: tl.constexpr):
    tile = tl.program_id(0)
    at, width = tl.arange(0, B), tl.arange(0, D)
    query = tl.load(q + (tile * B + at[:, None]) * D + width[None, :])
    total = tl.zeros([B, B], tl.float32)
    for other in range(0, tile + 1):
        key = tl.load(k + (other * B + at[None, :]) * D + width[:, None])
        total += tl.dot(query, key)
    tl.store(o + tile * B + at, tl.sum(total, 1))


@triton.jit
def persistent(x, y, tiles, B: tl.constexpr):
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        at = tile * B + tl.arange(0, B)
        tl.store(y + at, tl.load(x + at) + 1)


@triton.jit
def early(x, y, alive, B: tl.constexpr):
    if tl.program_id(0) < alive:
        at = tl.program_id(0) * B + tl.arange(0, B)
        tl.store(y + at, tl.load(x + at))


@triton.jit
def histogram(x, bins, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    tl.atomic_add(bins + tl.load(x + at), 1)


@triton.jit
def gather(index, table, y, D: tl.constexpr):
    row = tl.load(index + tl.program_id(0))
    width = tl.arange(0, D)
    tl.store(y + tl.program_id(0) * D + width, tl.load(table + row * D + width))


@triton.jit
def lengths(length, x, y, B: tl.constexpr):
    row = tl.program_id(0)
    total = tl.zeros([B], tl.float32)
    for start in range(0, tl.load(length + row), B):
        total += tl.load(x + row * 4096 + start + tl.arange(0, B))
    tl.store(y + row, tl.sum(total, 0))


@triton.jit
def described(x, y, B: tl.constexpr):
    tile = x.load([tl.program_id(0) * B, 0])
    y.store([tl.program_id(0) * B, 0], tile)


@triton.jit
def made(x, y, n, B: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [n, 64], [64, 1], [B, 64])
    tile = source.load([tl.program_id(0) * B, 0])
    tl.store(y + tl.program_id(0) * B + tl.arange(0, B), tl.sum(tile, 1))


@triton.jit
def typed(x, y, T: tl.constexpr, P: tl.constexpr):
    at = tl.arange(0, 32)
    tile = tl.load(x + at[:, None] * 32 + at[None, :]).to(T)
    tl.store(y + at[:, None] * 32 + at[None, :], tl.dot(tile, tile, input_precision=P))
"""

SCRIPT = """
    import json, sys, time
    from pawl.kernels.inside import counting, interpret
    interpret.install()
    import importlib.util
    spec = importlib.util.spec_from_file_location("kernels", sys.argv[1])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = {}
    for name, job in json.loads(sys.stdin.read()).items():
        values = {int(at): bytes.fromhex(data) for at, data in job.pop("values", {}).items()}
        begun = time.monotonic()
        try:
            found[name] = counting.count(getattr(module, job["kernel"]), job, values)
            found[name]["seconds"] = time.monotonic() - begun
        except Exception as error:
            found[name] = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(found))
"""


def tensor(storage, dtype="float32", sizes=(1 << 20,), strides=None):
    return {
        "t": storage,
        "dtype": dtype,
        "offset": 0,
        "sizes": list(sizes),
        "strides": list(strides or [1] * len(sizes)),
    }


def job(kernel, grid, arguments, values=None, **constexprs):
    given = {name: {"value": each} if isinstance(each, (int, float)) else each for name, each in arguments.items()}
    return {"kernel": kernel, "grid": [*grid, 1, 1][:3], "arguments": given, "constexprs": constexprs, "options": {},
            "values": {at: data.hex() for at, data in (values or {}).items()}}  # fmt: skip


def integers(*numbers):
    return b"".join(number.to_bytes(4, "little") for number in numbers)


X, Y, HALF = tensor(0), tensor(1), tensor(0, "float16")
ROWS = tensor(0, "float16", (4096, 64), (64, 1))
JOBS = {
    "ragged": job("ragged", [100], {"x": X, "y": Y, "n": 100 * 256 - 128}, B=256),
    "strided": job("strided", [1000], {"x": X, "y": Y, "step": 16}, B=256),
    "product": job("product", [8, 8], {"a": HALF, "b": tensor(1, "float16"), "c": tensor(2, "float16"), "n": 1024},
                   B=128, D=64),
    "causal": job("causal", [64], {"q": HALF, "k": tensor(1, "float16"), "o": tensor(2), "n": 64 * 64}, B=64, D=32),
    "persistent": job("persistent", [132], {"x": X, "y": Y, "tiles": 4000}, B=1024),
    "early": job("early", [1000], {"x": X, "y": Y, "alive": 250}, B=256),
    "histogram": job("histogram", [512], {"x": tensor(0, "int32"), "bins": tensor(1, "int32")}, B=128),
    "gather": job("gather", [512], {"index": tensor(0, "int32"), "table": tensor(1), "y": tensor(2)}, D=64),
    "gather known": job("gather", [512], {"index": tensor(0, "int32"), "table": tensor(1), "y": tensor(2)},
                        {0: integers(*range(512))}, D=64),
    "lengths": job("lengths", [64], {"length": tensor(0, "int32"), "x": tensor(1), "y": tensor(2)},
                   {0: integers(*[1024] * 64)}, B=256),
    "described": job("described", [32], {"x": {"descriptor": ROWS, "block": [128, 64], "padding": "zero"},
                     "y": {"descriptor": {**ROWS, "t": 1}, "block": [128, 64], "padding": "zero"}}, B=128),
    "made": job("made", [32], {"x": tensor(0), "y": tensor(1), "n": 4096}, B=128),
    "bf16": job("typed", [1], {"x": X, "y": Y}, T={"type": "bf16"}, P="ieee"),
    "tf32": job("typed", [1], {"x": X, "y": Y}, T={"type": "fp32"}, P="tf32"),
    "strict": job("typed", [1], {"x": X, "y": Y}, T={"type": "fp32"}, P="ieee"),
}  # fmt: skip


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    path = tmp_path_factory.mktemp("kernels") / "kernels.py"
    path.write_text(KERNELS)
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(path)],
        input=json.dumps(JOBS), capture_output=True, text=True, check=True, env={"TRITON_INTERPRET": "1", "PATH": ""},
    )  # fmt: skip
    found = json.loads(ran.stdout.splitlines()[-1])
    assert not {name: each["error"] for name, each in found.items() if "error" in each}
    return found


def total(found, kind, storage, amount="useful"):
    return sum(each[amount] for each in found["accesses"] if (each["kind"], each["tensor"]) == (kind, storage))


def test_ragged_tiles_and_strides_are_counted_by_element_and_by_sector(counted):
    ragged = counted["ragged"]
    assert 100 * total(ragged, "load", 0) == pytest.approx((100 * 256 - 128) * 4, rel=0.05)
    strided = counted["strided"]
    assert total(strided, "load", 0) == 256 * 4
    assert total(strided, "load", 0, "bytes") == 256 * 32
    assert total(strided, "store", 1, "bytes") == 256 * 4


def test_a_product_is_counted_whole_and_its_tiles_are_known_to_be_shared(counted):
    found = counted["product"]
    assert found["dots"]["fp16"] * 64 == 2 * 1024**3
    assert found["tiles"]["fp16"] == [128, 128, 64]
    assert found["trips"] == 16
    assert total(found, "load", 0) == total(found, "load", 1) == 128 * 1024 * 2
    for storage in (0, 1):
        shares = [each["sharing"] for each in found["accesses"] if each["tensor"] == storage]
        assert all(1 / 8 * 0.6 < share < 1 / 8 * 1.7 for share in shares)
    assert found["heaviest"] == 1


def test_loops_of_different_lengths_add_up_and_the_longest_is_noticed(counted):
    found = counted["causal"]
    mean = sum(range(1, 65)) / 64
    assert found["dots"]["fp16"] == pytest.approx(2 * 64 * 64 * 32 * mean, rel=0.15)
    assert 1.5 < found["heaviest"] < 2.2
    assert min(each["sharing"] for each in found["accesses"] if each["tensor"] == 1) < 0.6


def test_persistent_programs_are_counted_with_all_their_tiles(counted):
    found = counted["persistent"]
    assert 132 * total(found, "load", 0) == pytest.approx(4000 * 1024 * 4, rel=0.03)
    assert found["trips"] == pytest.approx(4000 / 132, abs=1)


def test_programs_that_end_early_count_as_such(counted):
    found = counted["early"]
    assert 1000 * total(found, "load", 0) == pytest.approx(250 * 256 * 4, rel=0.2)
    assert found["heaviest"] > 2


def test_atomics_are_neither_loads_nor_stores(counted):
    found = counted["histogram"]
    assert total(found, "atomic", 1) == 128 * 4
    assert total(found, "store", 1) == total(found, "load", 1) == 0


def test_unknown_values_read_as_zeros_and_supplied_ones_as_they_are(counted):
    assert total(counted["gather"], "load", 1) == total(counted["gather known"], "load", 1) == 64 * 4
    shared, own = (
        min(each["sharing"] for each in counted[name]["accesses"] if (each["kind"], each["tensor"]) == ("load", 1))
        for name in ("gather", "gather known")
    )
    assert shared < 0.01
    assert own == 1
    assert total(counted["lengths"], "load", 1) == 1024 * 4


def test_descriptors_move_their_blocks(counted):
    assert total(counted["described"], "load", 0) == total(counted["described"], "store", 1) == 128 * 64 * 2
    assert total(counted["made"], "load", 0) == 128 * 64 * 4


def test_products_are_named_by_what_computes_them(counted):
    assert [list(counted[name]["dots"]) for name in ("bf16", "tf32", "strict")] == [["bf16"], ["tf32"], ["fp32"]]


def test_counting_takes_well_below_a_second(counted):
    assert sorted(each["seconds"] for each in counted.values())[len(counted) // 2] < 0.5
