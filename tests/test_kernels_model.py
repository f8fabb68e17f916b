"""The model of torch operators: what is slower on an H100 is slower in it, in every way that TriMul programs differ."""

import json
import math
import subprocess
import sys

import pytest

from pawl.kernels.model import (
    H100,
    Launched,
    crude_us,
    interval_us,
    operator_times,
    perturbed_times,
    program_times,
    whole_time,
    work,
)


def contiguous(sizes):
    return [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]


def tensor(storage, *sizes, dtype="float32", strides=None, offset=0):
    return {"t": storage, "dtype": dtype, "offset": offset, "sizes": list(sizes),
            "strides": list(strides or contiguous(sizes))}  # fmt: skip


def step(op, *args, outs=(), region=None, **kwargs):
    return {"op": f"aten.{op}", "args": list(args), "kwargs": kwargs, "outs": list(outs), "region": region}


def total(*steps, device=H100, **flags):
    return sum(launch.time_us for launch in operator_times(steps, flags, device))


def product(m, n, k, dtype="float32", **flags):
    a, b = tensor(0, m, k, dtype=dtype), tensor(1, k, n, dtype=dtype)
    return total(step("mm.default", a, b, outs=[tensor(2, m, n, dtype=dtype)]), **flags)


def turned(source, storage=9):
    return step("clone.default", source, outs=[tensor(storage, *source["sizes"], dtype=source["dtype"])],
                memory_format={"memory_format": "contiguous_format"})  # fmt: skip


# --- products ---


@pytest.mark.parametrize(
    ("kind", "seconds"),
    [({"dtype": "float16"}, 0.189e-3), ({"tf32": True}, 0.344e-3), ({}, 3.009e-3)],
    ids=["fp16", "tf32", "fp32"],
)
def test_large_products_take_what_cublas_was_measured_at(kind, seconds):
    # 4096^3 on an H100 80GB HBM3: github.com/waynehacking8/blackwell-tensorcore-kernels, results/bench_sm90a.csv
    assert product(4096, 4096, 4096, **kind) == pytest.approx(seconds * 1e6, rel=0.12)


def test_tensor_cores_are_used_only_where_torch_uses_them():
    assert product(4096, 4096, 1024) > 4 * product(4096, 4096, 1024, tf32=True)
    assert product(4096, 4096, 1024, tf32=True) > 1.6 * product(4096, 4096, 1024, dtype="bfloat16")
    assert product(4096, 4096, 1024, dtype="bfloat16", tf32=True) == product(4096, 4096, 1024, dtype="bfloat16")


def test_a_small_depth_waits_for_memory_and_few_tiles_leave_multiprocessors_idle():
    (thin,) = operator_times(
        [step("mm.default", tensor(0, 1 << 20, 64, dtype="float16"), tensor(1, 64, 128, dtype="float16"),
              outs=[tensor(2, 1 << 20, 128, dtype="float16")])], {}, H100,
    )  # fmt: skip
    assert thin.bound == "memory"
    full, over = (product(128 * rows, 256, 4096, dtype="float16") for rows in (132, 133))
    assert over > 1.25 * full


def test_rows_that_start_off_16_bytes_lose_the_fast_kernels():
    assert product(4097, 4097, 4097, dtype="float16") > 1.8 * product(4096, 4096, 4096, dtype="float16")


def bmm(left, right):
    out = tensor(2, left["sizes"][0], left["sizes"][1], right["sizes"][2], dtype=left["dtype"])
    return operator_times([step("bmm.default", left, right, outs=[out])], {}, H100)


def test_a_layout_that_cublas_reads_costs_no_copy_and_one_that_it_does_not_costs_two():
    n, d = 512, 128
    rows = tensor(0, d, n, n, dtype="float16")
    columns = tensor(1, d, n, n, dtype="float16", strides=(n * n, 1, n))
    assert [launch.kernel for launch in bmm(rows, columns)] == ["bmm"]
    last = [tensor(each, d, n, n, dtype="float16", strides=(1, n * d, d)) for each in (0, 1)]
    assert [launch.kernel for launch in bmm(*last)] == ["clone", "clone", "bmm"]


# --- over elements ---


def test_a_contiguous_copy_runs_at_the_bandwidth_of_a_copy():
    n = 1 << 28
    (copy,) = operator_times([step("copy_.default", tensor(0, n), tensor(1, n))], {}, H100)
    assert copy.time_us == pytest.approx(8 * n / H100.memory_bytes * 1e6, rel=0.05)
    assert copy.bound == "memory"


def test_a_transposing_copy_is_several_times_slower_than_a_straight_one():
    source = tensor(0, 768, 768, 128)
    straight = total(turned(source))
    across = total(turned(tensor(0, 128, 768, 768, strides=(1, 768 * 128, 128))))
    assert 2 * straight < across < 20 * straight


def test_a_transposing_copy_of_bytes_takes_about_what_was_measured():
    # [32768, 8192] of fp8, t().contiguous(): 1.98 ms eager, 0.22 ms compiled; github.com/pytorch/pytorch/issues/113560
    source = tensor(0, 8192, 32768, dtype="float8_e4m3fn", strides=(1, 8192))
    assert total(turned(source)) == pytest.approx(1980, rel=0.25)
    compiled = turned(source) | {"region": 1}
    assert total(compiled) == pytest.approx(224, rel=0.25)


def test_lines_that_no_longer_fit_in_l2_are_fetched_again_and_again():
    def copy(n):
        return total(turned(tensor(0, 128, n, n, strides=(1, n * 128, 128)))) / n**2

    assert copy(1024) > 2 * copy(256)


def test_a_broadcast_operand_is_read_once_and_a_cast_moves_what_it_reads_and_writes():
    x, mask = tensor(0, 1 << 20, 128), tensor(1, 1 << 20, 128, strides=(1, 0))
    by_mask = total(step("mul.Tensor", x, mask, outs=[tensor(2, 1 << 20, 128)]))
    by_full = total(step("mul.Tensor", x, tensor(1, 1 << 20, 128), outs=[tensor(2, 1 << 20, 128)]))
    assert by_mask < 0.8 * by_full
    half = total(step("_to_copy.default", x, outs=[tensor(2, 1 << 20, 128, dtype="float16")]))
    assert half < by_mask


def test_what_was_just_written_is_read_out_of_l2_if_it_fits():
    def chain(n):
        first = step("sigmoid.default", tensor(0, n), outs=[tensor(1, n)])
        return operator_times([first, step("sigmoid.default", tensor(1, n), outs=[tensor(2, n)])], {}, H100)

    cold, warm = chain(1 << 21)
    assert warm.time_us < 0.8 * cold.time_us
    cold, warm = chain(1 << 26)
    assert warm.time_us == pytest.approx(cold.time_us)


# --- over rows ---


def norm(rows, width, strides=None):
    x = tensor(0, rows, width, strides=strides)
    outs = [tensor(3, rows, width), tensor(4, rows, 1), tensor(5, rows, 1)]
    return operator_times(
        [step("native_layer_norm.default", x, [width], tensor(1, width), tensor(2, width), 1e-5, outs=outs)], {}, H100
    )


def test_short_rows_keep_layer_norm_from_the_bandwidth():
    (short,), (long,) = norm(1 << 20, 128), norm(1 << 17, 1024)
    assert short.bound == "latency"
    assert long.bound == "memory"
    assert short.time_us > 1.5 * long.time_us


def test_layer_norm_of_a_turned_tensor_copies_it_first():
    assert [launch.kernel for launch in norm(1 << 16, 128, strides=(1, 1 << 16))] == ["clone", "native_layer_norm"]


@pytest.mark.parametrize(
    ("op", "made"),
    [
        ("_softmax.default", (4096, 4096)), ("sum.dim_IntList", (4096,)), ("sort.default", (4096, 4096)),
        ("topk.default", (4096, 8)), ("embedding.default", (4096, 4096)), ("cumsum.default", (4096, 4096)),
        ("where.self", (4096, 4096)), ("_scaled_dot_product_flash_attention.default", (4096, 4096)),
        ("constant_pad_nd.default", (4100, 4096)), ("some_new_operator.default", (4096, 4096)),
    ],
)  # fmt: skip
def test_every_operator_takes_at_least_its_bytes_and_a_launch(op, made):
    given = [tensor(each, 4096, 4096) for each in range(3)]
    if op.startswith("_scaled"):
        given = [{**each, "sizes": [1, 1, 4096, 4096], "strides": [1, 1, 4096, 1]} for each in given]
    made = tensor(9, *made)
    out = made if not op.startswith("_scaled") else {**made, "sizes": [1, 1, 4096, 4096], "strides": [1, 1, 4096, 1]}
    few = given if op.startswith(("where", "_scaled")) else given[:1]
    launches = operator_times([step(op, *few, outs=[out])], {}, H100)
    least = 4096 * 4096 * 4 / 3.35e12 * 1e6
    assert sum(launch.time_us for launch in launches) > least
    for launch in launches:
        assert math.isclose(sum(launch.breakdown_us.values()), launch.time_us)


def test_gathers_of_single_elements_cost_whole_sectors():
    index, table = tensor(1, 1 << 24, dtype="int64"), tensor(0, 1 << 26)
    scattered = total(step("index.Tensor", table, [index], outs=[tensor(2, 1 << 24)]))
    in_order = total(step("add.Tensor", tensor(0, 1 << 24), index, outs=[tensor(2, 1 << 24)]))
    assert scattered > 2 * in_order


def test_allocation_takes_no_kernel():
    assert operator_times([step("empty.memory_format", [4], outs=[tensor(0, 4)])], {}, H100) == []


# --- compiled regions ---


def chain(region):
    n = (1 << 20, 128)
    return [
        step("mul.Tensor", tensor(0, *n), tensor(1, *n), outs=[tensor(2, *n)], region=region),
        step("sigmoid.default", tensor(2, *n), outs=[tensor(3, *n)], region=region),
        step("native_layer_norm.default", tensor(3, *n), [128], tensor(4, 128), tensor(5, 128), 1e-5,
             outs=[tensor(6, *n), tensor(7, 1 << 20, 1), tensor(8, 1 << 20, 1)], region=region),
        step("_to_copy.default", tensor(6, *n), outs=[tensor(10, *n, dtype="float16")], region=region),
    ]  # fmt: skip


def test_a_compiled_chain_is_one_kernel_that_moves_what_enters_and_leaves_it():
    (fused,) = operator_times(chain(1), {}, H100)
    moved = (1 << 20) * 128 * (4 + 4 + 2)
    assert fused.time_us == pytest.approx(moved / H100.memory_bytes / 0.9 * 1e6, rel=0.15)
    assert fused.time_us < 0.5 * total(*chain(None))


def test_a_product_in_a_compiled_region_parts_what_is_before_it_from_what_is_after():
    n = (1 << 16, 128)
    steps = [
        step("sigmoid.default", tensor(0, *n), outs=[tensor(1, *n)], region=1),
        step("mm.default", tensor(1, *n), tensor(2, 128, 128), outs=[tensor(3, *n)], region=1),
        step("mul.Tensor", tensor(3, *n), tensor(0, *n), outs=[tensor(4, *n)], region=1),
    ]
    assert [launch.kernel for launch in operator_times(steps, {}, H100)] == ["fused sigmoid", "mm", "fused mul"]


def test_what_is_read_after_the_region_is_written():
    used = [*chain(1), step("neg.default", tensor(2, 1 << 20, 128), outs=[tensor(11, 1 << 20, 128)])]
    assert operator_times(used, {}, H100)[0].time_us > operator_times(chain(1), {}, H100)[0].time_us


# --- whole calls ---


def test_short_operators_take_what_the_host_takes_and_long_ones_hide_it():
    short = [step("sigmoid.default", tensor(0, 64), outs=[tensor(1, 64)]) for _ in range(50)]
    launches = operator_times(short, {}, H100)
    assert whole_time(launches) == pytest.approx(50 * H100.dispatch_seconds * 1e6, rel=0.1)
    n = 1 << 28
    long = operator_times([step("sigmoid.default", tensor(0, n), outs=[tensor(1, n)]) for _ in range(5)], {}, H100)
    assert whole_time(long) == pytest.approx(sum(launch.time_us for launch in long), rel=0.01)


def test_a_value_that_the_host_reads_stops_the_stream():
    n = 1 << 28
    work_ = [step("sigmoid.default", tensor(0, n), outs=[tensor(1, n)])]
    small = [step("neg.default", tensor(2, 8), outs=[tensor(3, 8)]) for _ in range(20)]
    read = [step("_local_scalar_dense.default", tensor(4))]
    assert whole_time(operator_times(work_ + read + small, {}, H100)) > 1.05 * whole_time(
        operator_times(work_ + small, {}, H100)
    )


RESOURCES = {
    "registers": 64, "shared": 32768, "spills": 0, "warps": 4, "stages": 3, "wgmma": 4, "mma": 0, "async_copies": 8,
}  # fmt: skip
COUNTS = {
    "accesses": [
        {"kind": kind, "tensor": number, "bytes": size, "useful": size, "first": size, "sharing": 1.0, "looped": looped}
        for kind, number, size, looped in (("load", 0, 4096.0, True), ("store", 1, 512.0, False))
    ],
    "dots": {"fp16": 1e6}, "tiles": {"fp16": (128, 128, 64)}, "operations": 0.0, "trips": 4.0, "heaviest": 1.0,
}  # fmt: skip
MIXED = [
    step("_to_copy.default", tensor(2, 1 << 20), outs=[tensor(0, 1 << 20, dtype="float16")]),
    {"kernel": "k", "grid": [1024, 1, 1], "arguments": {"x": tensor(0, 1 << 20, dtype="float16")},
     "constexprs": {}, "options": {}},
    step("mm.default", tensor(3, 256, 256), tensor(4, 256, 256), outs=[tensor(5, 256, 256)]),
]  # fmt: skip
KNOWN = {1: Launched(COUNTS, RESOURCES, {0: 2 << 20, 1: 1 << 19})}


def test_launches_and_operators_come_in_the_order_of_the_call():
    assert [launch.kernel for launch in program_times(MIXED, KNOWN, {}, H100)] == ["_to_copy", "k", "mm"]
    assert [launch.kernel for launch in operator_times(MIXED, {}, H100)] == ["_to_copy", "mm"]


def test_work_tells_arithmetic_apart_by_where_it_happens_and_bytes_by_storage():
    done = work(MIXED, KNOWN)
    assert done.triton_flops == 1024 * 1e6
    assert done.torch_flops == 2 * 256**3
    assert done.read == {2: 4 << 20, 0: 1024 * 4096, 3: 256 * 256 * 4, 4: 256 * 256 * 4}
    assert done.written == {0: 2 << 20, 1: 1024 * 512, 5: 256 * 256 * 4}


def test_the_crude_estimate_is_of_the_same_size_but_not_the_same():
    crude, fine = crude_us(MIXED, KNOWN, {}, H100), whole_time(program_times(MIXED, KNOWN, {}, H100))
    assert 0 < crude < fine


def test_perturbed_times_repeat_and_an_interval_holds_the_estimate():
    def time(device):
        return total(turned(tensor(0, 128, 512, 512, strides=(1, 512 * 128, 128))), device=device)

    assert perturbed_times(time, H100) == perturbed_times(time, H100)
    low, high = interval_us(time, H100)
    assert 0.5 * time(H100) < low < time(H100) < high < 2 * time(H100)
    assert all(low < each < high for each in perturbed_times(time, H100))


def test_the_model_loads_neither_torch_nor_triton_nor_numpy():
    script = (
        "import sys, pawl.kernels.model, json; "
        "print(json.dumps([m for m in ('torch', 'triton', 'numpy') if m in sys.modules]))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == []


# --- TriMul, as people write it in torch ---


def trimul(n, kind, layout, tf32=False):
    """Operators of one call: `kind` of the heavy steps, the triangle's operands `channel_last` or `channel_first`."""
    rows, dim, hidden = n * n, 128, 128
    size = (rows, hidden)
    steps = [step("native_layer_norm.default", tensor(0, rows, dim), [dim], tensor(1, dim), tensor(2, dim), 1e-5,
                  outs=[tensor(3, rows, dim), tensor(4, rows, 1), tensor(5, rows, 1)])]  # fmt: skip
    source = tensor(3, rows, dim)
    if kind != "float32":
        steps.append(step("_to_copy.default", source, outs=[tensor(6, rows, dim, dtype=kind)]))
        source = tensor(6, rows, dim, dtype=kind)
    for side in range(5):
        made = tensor(10 + side, *size, dtype=kind)
        steps.append(
            step("mm.default", source, tensor(20 + side, dim, hidden, dtype=kind, strides=(1, dim)), outs=[made])
        )
    if layout == "channel_last":
        given = [tensor(10 + side, hidden, n, n, dtype=kind, strides=(1, n * hidden, hidden)) for side in (0, 1)]
    else:
        given = [tensor(10 + side, hidden, n, n, dtype=kind) for side in (0, 1)]
    right = {**given[1], "strides": [given[1]["strides"][axis] for axis in (0, 2, 1)]}
    steps.append(step("bmm.default", given[0], right, outs=[tensor(30, hidden, n, n, dtype=kind)]))
    return whole_time(operator_times(steps, {"tf32": tf32}, H100))


@pytest.mark.parametrize("n", [256, 512, 1024])
def test_trimul_programs_rank_by_precision_and_layout(n):
    times = [
        trimul(n, "float32", "channel_last"),
        trimul(n, "float32", "channel_last", tf32=True),
        trimul(n, "float32", "channel_first", tf32=True),
        trimul(n, "float16", "channel_first"),
    ]
    assert times == sorted(times, reverse=True)
    assert trimul(n, "float16", "channel_last") > trimul(n, "float16", "channel_first")
