"""Counting kernels whose programs go by what atomics return: the totals are those of the whole grid."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

HONEST = Path(__file__).parent / "zoo" / "honest"
KERNELS = """
import triton
import triton.language as tl


@triton.jit
def last_of_all(x, parts, done, y, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(parts + tl.program_id(0), tl.sum(tl.load(x + at), 0))
    if tl.atomic_add(done, 1) == tl.num_programs(0) - 1:
        total = tl.zeros([B], tl.float32)
        for start in range(0, tl.num_programs(0), B):
            total += tl.load(parts + start + tl.arange(0, B))
        tl.store(y, tl.sum(total, 0))


@triton.jit
def last_of_the_last(x, arrived, done, y, SHARE: tl.constexpr, B: tl.constexpr):
    group = tl.program_id(0) // SHARE
    tl.store(x + tl.program_id(0) * B + tl.arange(0, B), 1.0)
    if tl.atomic_add(arrived + group, 1) == SHARE - 1:
        tl.store(y + group * B + tl.arange(0, B), 2.0)
        if tl.atomic_add(done, 1) == tl.num_programs(0) // SHARE - 1:
            tl.store(y, 3.0)


@triton.jit
def shared_tickets(x, arrived, y, tiles, SHARE: tl.constexpr, B: tl.constexpr):
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        tl.store(x + tile * B + tl.arange(0, B), 1.0)
        if tl.atomic_add(arrived + tile // SHARE, 1) == SHARE - 1:
            tl.store(y + tile // SHARE * B + tl.arange(0, B), 2.0)


@triton.jit
def locked(lock, y, B: tl.constexpr):
    at = y + tl.arange(0, B)
    while tl.atomic_cas(lock, 0, 1) == 1:
        pass
    tl.store(at, tl.load(at) + 1)
    tl.atomic_xchg(lock, 0)


@triton.jit
def exchanged(lock, y, B: tl.constexpr):
    at = y + tl.arange(0, B)
    while tl.atomic_xchg(lock, 1) == 1:
        pass
    tl.store(at, tl.load(at) + 1)
    tl.atomic_xchg(lock, 0)


@triton.jit
def highest(x, y):
    value = tl.load(x + tl.program_id(0))
    old = tl.load(y)
    while value > old or old == 0:
        seen = old
        old = tl.atomic_cas(y, seen, value)
        if seen == old:
            old = value + 1


@triton.jit
def barrier(x, bar, y, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(x + at, 1.0)
    tl.atomic_add(bar, 1)
    while tl.atomic_add(bar, 0) < tl.num_programs(0):
        pass
    tl.store(y + at, tl.load(x + at))


@triton.jit
def chained(x, flags, y, B: tl.constexpr):
    pid = tl.program_id(0)
    if pid > 0:
        while tl.load(flags + pid - 1, volatile=True) != 2:
            pass
    tl.store(y + pid * B + tl.arange(0, B), tl.load(x + pid * B + tl.arange(0, B)))
    tl.atomic_xchg(flags + pid, 2)


@triton.jit
def summed(x, y, B: tl.constexpr):
    tl.atomic_add(y + tl.arange(0, B), tl.load(x + tl.program_id(0) * B + tl.arange(0, B)))
"""

SCRIPT = """
    import importlib.util, json, sys
    import numpy as np
    import torch
    from pawl.kernels.inside import counting, interpret
    interpret.install()

    class Totals(interpret.Observer):
        # What all programs do, by the number of the storage; a part of a batch that is undone didn't happen.
        def __init__(self, starts):
            self.starts, self.kept, self.now = starts, [], []

        def begin(self, ids):
            self.kept, self.now = self.kept + self.now, []
            self.programs = len(ids)

        def discard(self):
            self.now = []

        def add(self, kind, pointers, mask, size):
            shape = (self.programs, *np.broadcast_shapes(pointers.shape, mask.shape)[1:])
            touched = np.broadcast_to(pointers, shape)[np.broadcast_to(mask, shape)]
            if touched.size:
                storage = int(np.searchsorted(self.starts, int(touched.min()), side="right")) - 1
                self.now.append((f"{kind} {storage}", touched.size * size))

        def load(self, pointers, mask, other, dtype):
            self.add("load", pointers.data, mask, dtype.itemsize)
            return super().load(pointers, mask, other, dtype)

        def store(self, pointers, value, mask):
            self.add("store", pointers.data, mask, value.dtype.itemsize)
            super().store(pointers, value, mask)

        def atomic(self, pointers, mask, dtype, perform):
            self.add("atomic", pointers.data, mask, dtype.itemsize)
            return super().atomic(pointers, mask, dtype, perform)

        def dot(self, a, b, shape, precision):
            lead = self.programs
            self.now.append(("flops", 2 * lead * int(np.prod(shape[1:])) * a.data.shape[-1]))

    def run(kernel, job):
        tensors = [each for each in job["arguments"].values() if "t" in each]
        room = torch.zeros(sum(each["sizes"][0] * 8 for each in tensors), dtype=torch.uint8)
        given, starts, at = {}, [], 0
        for name, each in job["arguments"].items():
            if "t" in each:
                kind = getattr(torch, each["dtype"])
                given[name] = room[at:at + each["sizes"][0] * kind.itemsize].view(kind)
                starts.append(given[name].data_ptr())
                at += each["sizes"][0] * 8
            else:
                given[name] = each["value"]
        totals = Totals(starts)
        interpret.run_launch(kernel, given | job["constexprs"], tuple(job["grid"]), totals)
        found = {}
        for name, amount in totals.kept + totals.now:
            found[name] = found.get(name, 0) + amount
        return found

    found = {}
    for name, job in json.loads(sys.stdin.read()).items():
        spec = importlib.util.spec_from_file_location(name, job.pop("path"))
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        kernel = getattr(module, job["kernel"])
        whole = job.pop("whole")
        found[name] = {"counted": counting.count(kernel, job), "run": run(kernel, job) if whole else None}
    print(json.dumps(found))
"""


def job(path, kernel, grid, arguments, whole=True, **constexprs):
    given, storages = {}, 0
    for name, value in arguments.items():
        if isinstance(value, int):
            given[name] = {"value": value}
        else:
            dtype, size = value
            given[name] = {"t": storages, "dtype": dtype, "offset": 0, "sizes": [size], "strides": [1]}
            storages += 1
    return {"path": str(path), "kernel": kernel, "grid": [*grid, 1, 1][:3], "arguments": given,
            "constexprs": constexprs, "options": {}, "whole": whole}  # fmt: skip


def matmul(name, m, n, k, programs=0, split=0, **constexprs):
    tiles = -(-m // 64) * -(-n // 64)
    a, b, bias, out = (("float16", size) for size in (m * k, k * n, n, m * n))
    given = {"a_ptr": a, "b_ptr": b, "bias_ptr": bias}
    if split:
        given |= {"parts_ptr": ("float32", tiles * split * 4096), "arrived_ptr": ("int32", tiles), "out_ptr": out}
        constexprs["SPLIT"] = split
    else:
        given |= {"out_ptr": out, "next_ptr": ("int32", 1)}
    grid = [tiles, split] if split else [programs]
    return job(HONEST / f"{name}.py", "matmul", grid, given | {"m": m, "n": n, "k": k}, whole=m < 1000,
               ACTIVATION="relu", TILE=64, DEPTH=32, **constexprs)  # fmt: skip


def jobs(path):
    floats, counters = ("float32", 1 << 18), ("int32", 1 << 12)
    return {
        "queue": matmul("matmul_dynamic_queue", 300, 310, 200, programs=7),
        "queue of few": matmul("matmul_dynamic_queue", 130, 64, 64, programs=132),
        "queue of the device": matmul("matmul_dynamic_queue", 1024, 1024, 64, programs=132),
        "semaphore": matmul("matmul_split_k_semaphore", 200, 130, 500, split=4),
        "semaphore of many": matmul("matmul_split_k_semaphore", 2560, 2560, 1024, split=4),
        "semaphore of eight": matmul("matmul_split_k_semaphore", 2560, 1280, 1024, split=8),
        "last of all": job(path, "last_of_all", [40], {"x": floats, "parts": floats, "done": counters, "y": floats},
                           B=64),
        "last of very many": job(path, "last_of_all", [4096],
                                 {"x": floats, "parts": floats, "done": counters, "y": floats}, B=64),
        "last of the last": job(path, "last_of_the_last", [60],
                                {"x": floats, "arrived": counters, "done": counters, "y": floats}, SHARE=5, B=32),
        "tickets": job(path, "shared_tickets", [9], {"x": floats, "arrived": counters, "y": floats, "tiles": 60},
                       SHARE=3, B=32),
        "locked": job(path, "locked", [50], {"lock": counters, "y": floats}, B=32),
        "exchanged": job(path, "exchanged", [50], {"lock": counters, "y": floats}, B=32),
        "highest": job(path, "highest", [50], {"x": ("int32", 64), "y": counters}, whole=False),
        "barrier": job(path, "barrier", [50], {"x": floats, "bar": counters, "y": floats}, whole=False, B=32),
        "chained": job(path, "chained", [50], {"x": floats, "flags": counters, "y": floats}, whole=False, B=32),
        "summed": job(path, "summed", [5000], {"x": floats, "y": floats}, whole=False, B=32),
    }  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    path = tmp_path_factory.mktemp("kernels") / "kernels.py"
    path.write_text(KERNELS)
    asked = jobs(path)
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)],
        input=json.dumps(asked), capture_output=True, text=True, check=False, env={"TRITON_INTERPRET": "1", "PATH": ""},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    told = json.loads(ran.stdout.splitlines()[-1])
    for name, each in asked.items():
        grid = each["grid"]
        told[name]["counted"] = totals(told[name]["counted"], grid[0] * grid[1] * grid[2])
    return told


def totals(counted, programs):
    whole = {"flops": programs * sum(counted["dots"].values())}
    for access in counted["accesses"]:
        name = f"{access['kind']} {access['tensor']}"
        whole[name] = whole.get(name, 0) + programs * access["useful"]
    return {name: amount for name, amount in whole.items() if amount}


@pytest.mark.parametrize(
    "name",
    [
        "queue", "queue of few", "semaphore", "last of all", "last of very many", "last of the last", "tickets",
        "locked", "exchanged",
    ],
)  # fmt: skip
def test_counts_are_the_totals_of_all_programs(found, name):
    assert found[name]["counted"] == pytest.approx(found[name]["run"], rel=1e-9)


def test_a_queue_is_drained_once_by_as_many_programs_as_the_device_runs(found):
    counted = found["queue of the device"]["counted"]
    assert counted["flops"] == pytest.approx(2 * 1024 * 1024 * 64)
    assert counted["store 3"] == pytest.approx(2 * 1024 * 1024)


@pytest.mark.parametrize(("name", "m", "n"), [("semaphore of many", 2560, 2560), ("semaphore of eight", 2560, 1280)])
def test_in_a_large_grid_the_last_at_each_tile_writes_it(found, name, m, n):
    counted = found[name]["counted"]
    assert counted["store 5"] == pytest.approx(2 * m * n)
    assert counted["flops"] == pytest.approx(2 * m * n * 1024)
    assert counted["load 3"] == pytest.approx(counted["store 3"])


def test_who_waits_for_others_gets_what_they_bring(found):
    assert found["barrier"]["counted"]["store 2"] == found["chained"]["counted"]["store 2"] == 50 * 32 * 4
    assert found["highest"]["counted"]["atomic 1"] == 50 * 4


def test_additions_that_nothing_depends_on_are_counted_by_a_sample(found):
    counted = found["summed"]["counted"]
    assert counted["atomic 1"] == counted["load 0"] == pytest.approx(5000 * 32 * 4)
