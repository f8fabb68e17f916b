"""Problems, schedules and modules, without torch."""

import subprocess
import sys

import numpy as np
import pytest

from pawl.core import ConfigurationError, NotFound
from pawl.kernels import Distribution, Precision, TriMul, find_problem, trimul_variant
from pawl.kernels.extract import extract_kernels, interpreted_source
from pawl.kernels.launches import compile_job

PROBLEM = TriMul()


def test_importing_the_layer_loads_neither_torch_nor_triton():
    code = "import sys, pawl.kernels; print([m for m in ('torch', 'triton', 'numpy', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_stream_of_variants_is_the_same_however_it_is_cut():
    whole = PROBLEM.draw(5, 40)
    assert PROBLEM.draw(5, 10, start=30) == whole[30:]
    assert PROBLEM.draw(6, 40) != whole
    assert len({PROBLEM.slice_of(variant) for variant in PROBLEM.draw(5, 200)}) == 2
    assert any(variant["n"] % 2 for variant in whole)
    assert {variant.precision for variant in whole} == set(Precision)


def test_small_cases_stay_within_the_family_that_leaderboard_files_are_written_for():
    drawn = [PROBLEM.correctness(seed) for seed in range(50)]
    assert len({tuple(map(str, cases)) for cases in drawn}) > 20
    for cases in drawn:
        assert {case.distribution for case in cases} == set(Distribution)
        assert {case["hidden"] for case in cases} == {128}
        assert {case["dim"] for case in cases} <= {128, 256, 384, 768}
        assert {case["mask"] for case in cases} == {True, False}
        assert {case["batch"] for case in cases} == {1, 2}
        assert max(case["n"] for case in cases) < 50
        assert sum(case["n"] % 2 for case in cases) >= 4
        assert any(case["n"] % 32 == 0 for case in cases)


def test_smaller_variants_rise_to_the_variant_and_keep_all_but_its_size():
    variant = trimul_variant(777, 2, 384, mask=True, distribution=Distribution.CAUCHY)
    smaller = PROBLEM.smaller(variant)
    sizes = [each["n"] for each in smaller]
    assert sizes == sorted(set(sizes))
    assert sizes[0] == 65
    assert all(size % 2 for size in sizes)
    assert smaller[-1] == variant
    assert {str(each).replace(f"n={each['n']}", "") for each in smaller} == {str(variant).replace("n=777", "")}
    assert [each["n"] for each in PROBLEM.smaller(trimul_variant(64))] == [64]
    assert [each["n"] for each in PROBLEM.smaller(trimul_variant(256))] == [64, 96, 128, 192, 256]


def test_the_space_has_tens_of_thousands_of_schedules_over_ten_fields():
    assert len(PROBLEM.space.fields) >= 10
    assert PROBLEM.space.size >= 20_000


@pytest.mark.parametrize(
    "change",
    [{"tile": "7x7"}, {"colour": "red"}, {"tile": None}, {"tile": ["64x64"]}],
)
def test_a_schedule_outside_the_space_is_refused_by_name(change):
    schedule = {**PROBLEM.space.sample(1), **change}
    with pytest.raises(ConfigurationError, match=r"tile|colour"):
        PROBLEM.render(schedule)


def test_an_unknown_problem_is_refused_with_those_there_are():
    with pytest.raises(NotFound, match="trimul"):
        find_problem("nope")


def test_extraction_drops_host_code_and_keeps_what_a_kernel_calls():
    source = """
import os
import triton, triton.language as tl
SIZE: int = 8
os.system("true")

@triton.jit
def helper(x, how=os.getpid()):
    return x + SIZE

@triton.jit(do_not_specialize=["n"])
def kernel(x_ptr: os.system("true"), n, BLOCK: tl.constexpr):
    tl.store(x_ptr, helper(n, 1))

@os.register
def other(): pass
"""
    kernels = extract_kernels(source).modules
    assert set(kernels) == {"helper", "kernel"}
    assert "os." not in kernels["kernel"]
    assert "def helper" in kernels["kernel"]
    assert "SIZE = tl.constexpr(8)" in kernels["kernel"]
    arguments = {
        "x_ptr": {"t": 0, "offset": 2, "dtype": "float32", "sizes": [8], "strides": [1]},
        "n": {"value": 16},
    }
    job = compile_job(
        kernels["kernel"],
        {"kernel": "kernel", "arguments": arguments, "constexprs": {"BLOCK": 4}, "options": {}},
    )
    assert job["signature"] == {"x_ptr": "*fp32", "n": "i32"}
    assert job["divisible"] == []


def test_sources_that_the_interpreter_cannot_tell_apart_are_one_and_keep_their_lines():
    schedule = PROBLEM.space.sample(4) | {"warps": "4", "stages": "3"}
    one, other = PROBLEM.render(schedule), PROBLEM.render(schedule | {"warps": "8", "stages": "5"})
    assert interpreted_source(one) == interpreted_source(other)
    assert interpreted_source(one).splitlines()[20:60] == one.splitlines()[20:60]
    assert interpreted_source(PROBLEM.render(schedule | {"group": "1"})) != interpreted_source(
        PROBLEM.render(schedule | {"group": "16"})
    )
    kept = "x = f(num_warps=4)\n\n\ny = k[g](num_warps=w)\n"
    assert interpreted_source(kept) == kept


def test_inputs_come_from_one_generator_and_every_one_matters():
    variant = PROBLEM.correctness()[0]
    inputs = PROBLEM.inputs(variant, 3)
    again = PROBLEM.inputs(variant, 3)
    assert all((inputs[name] == again[name]).all() for name in inputs)
    reference = PROBLEM.reference(variant, inputs)
    for name in inputs:
        changed = dict(inputs)
        changed[name] = 1 - inputs[name] if name == "mask" else inputs[name] * inputs[name].dtype.type(2) + 1
        assert not np.allclose(PROBLEM.reference(variant, changed), reference), name


def test_flops_and_bytes_agree_with_a_count_by_hand():
    variant = trimul_variant(1024)
    rows = 1024 * 1024
    projections = 2 * rows * 128 * 128 * 6
    assert PROBLEM.flops(variant) == projections + 2 * 128 * 1024**3
    assert PROBLEM.least_bytes(variant) == rows * (2 * 128 * 4 + 4)


def test_a_docstring_before_a_future_import_stays_one():
    source = '"""What it does."""\nfrom __future__ import annotations\nx = 1\n'
    same = interpreted_source(source)
    assert same == interpreted_source(source.replace("What it does", "Something else"))
    compile(same, "submission.py", "exec")
