"""Problems that others wrote: read as they are, drawn alike everywhere, run in fp64 in the real sandbox."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pawl.core import ConfigurationError
from pawl.kernels import Distribution, Precision
from pawl.kernels.grade import half
from pawl.kernels.loaders import load_problem, registered_problem
from pawl.kernels.loaders.inside.structure import build
from pawl.kernels.problems.trimul_reference import outgoing_trimul

DATA = Path(__file__).parent / "loaders_data"
SUM, UPDATE, MLP = DATA / "pmpp" / "vectorsum", DATA / "bio" / "outgoing_update", DATA / "wide_mlp.py"

REFERENCE = """
import torch
from task import input_t, output_t
from utils import make_match_reference

def generate_input(rows: int, width: int, seed: int) -> input_t:
    gen = torch.Generator(device="cuda").manual_seed(seed)
    return torch.randn(rows, width, device="cuda", generator=gen)

def ref_kernel(data: input_t) -> output_t:
    return torch.softmax(data, -1)

check_implementation = make_match_reference(ref_kernel, rtol=1e-3, atol=1e-3)
"""
TASK = """
lang: py
tests: [{rows: 16, width: 64, seed: 1}, {rows: 48, width: 128, seed: 2}]
benchmarks: [{rows: 4096, width: 1024, seed: 3}]
"""


def folder(place, reference=REFERENCE, task=TASK):
    """A problem folder with these files."""
    (place / "task.yml").write_text(task)
    (place / "reference.py").write_text(reference)
    return place


def tensors(problem, variant, inputs):
    """The inputs as torch tensors of the types that a submission gets."""
    specs = problem.specs(variant)
    return {
        name: torch.from_numpy(value.copy()).to(getattr(torch, specs[name].dtype)) for name, value in inputs.items()
    }


def run(source, problem, variant, inputs):
    """Run a submission in plain torch, here."""
    module = {}
    exec(compile(problem.complete(source), "submission.py", "exec"), module)
    return module["custom_kernel"](build(problem.arguments(variant), tensors(problem, variant, inputs)))


def test_a_folder_gives_its_public_cases_and_what_they_take():
    problem = load_problem(UPDATE)
    first, second = problem.benchmark()
    assert first.parameters == {
        "seqlen": 1024, "bs": 1, "dim": 384, "hiddendim": 128, "nomask": True, "distribution": "cauchy"
    }  # fmt: skip
    assert [each.distribution for each in problem.tests()] == [
        Distribution.NORMAL, Distribution.CAUCHY, Distribution.NORMAL
    ]  # fmt: skip
    assert first.precision is Precision.FP16
    rows, dim, hidden = 1024**2, 384, 128
    assert problem.flops(first) == 2 * rows * hidden * (6 * dim + 1024)
    weights = 2 * dim + 2 * hidden + 6 * dim * hidden
    assert problem.least_bytes(first) == 4 * (2 * rows * dim + rows + weights)
    assert problem.output(first).shape == (1, 1024, 1024, 384)
    assert problem.slice_of(first) == "large"
    assert problem.slice_of(second) == "small"
    assert problem.specs(second)["1"].dtype == "int64"
    assert problem.arguments(first)["tuple"][3] == {"hidden_dim": 128, "dim": 384}
    assert "2.to_out.weight" in problem.weights(first)
    assert problem.weights(first).isdisjoint({"0", "1"})


def test_two_processes_draw_the_same_where_the_seed_doesnt_reach():
    problem = load_problem(UPDATE)
    cauchy = problem.tests()[1]
    one, two = problem.inputs(cauchy, 5), problem.inputs(cauchy, 5)  # each draw is a process of its own
    assert set(one) == set(problem.specs(cauchy))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    another = problem.inputs(cauchy, 6)
    assert not any(np.array_equal(one[name], another[name]) for name in one)


def test_the_reference_runs_in_fp64_and_rounds_where_half_precision_is_stored():
    problem = load_problem(UPDATE)
    variant = problem.tests()[1]
    inputs = problem.inputs(variant, 3)
    ours = {name.removeprefix("2."): value for name, value in inputs.items()}
    expected = outgoing_trimul(ours | {"input": inputs["0"], "mask": inputs["1"]})
    exact = problem.reference(variant, inputs)
    assert not problem.why_narrow
    assert exact.dtype == np.float64
    assert np.abs(exact - expected).max() < 1e-12 * np.abs(expected).max()
    rounded = problem.reference(variant, inputs, half)
    assert 1e-5 < np.linalg.norm(rounded - exact) / np.linalg.norm(exact) < 5e-3


def test_sizes_are_odd_only_where_public_cases_leave_it_open():
    problem = load_problem(UPDATE)
    cases = [case for seed in range(2) for case in problem.correctness(seed)]
    assert any(case["seqlen"] % 2 for case in cases)
    assert {case["dim"] for case in cases} == {128}
    assert all(problem.least_bytes(case) < 4 << 20 for case in cases)
    drawn = problem.draw(7, 6)
    assert drawn == problem.draw(7, 3) + problem.draw(7, 3, start=3)
    assert any(variant["seqlen"] % 2 for variant in drawn)
    assert {variant["hiddendim"] for variant in drawn} == {128}
    smaller = problem.smaller(problem.benchmark()[0])
    assert smaller[-1] == problem.benchmark()[0]
    sizes = [variant["seqlen"] for variant in smaller]
    assert sizes == sorted(sizes)
    assert sizes[0] < 64
    assert {variant["dim"] for variant in smaller} == {384}


def test_a_buffer_for_the_output_is_no_traffic_and_may_be_written():
    problem = load_problem(SUM)
    large = problem.benchmark()[1]
    assert problem.buffers(large) == {"1"}
    assert problem.least_bytes(large) == 4 * 16777216 + 4
    assert problem.flops(large) == 0
    assert len(problem.tests()) == 2  # which differ by more than the seed
    assert problem.tolerance(large.precision).rtol == 1e-5
    assert large.precision is Precision.FP32
    variant = problem.tests()[0]
    inputs = problem.inputs(variant, 1)
    assert np.isclose(problem.reference(variant, inputs), inputs["0"].astype(np.float64).sum(), rtol=1e-14)


def test_the_seed_is_the_reference_as_a_submission(tmp_path):
    problem = load_problem(folder(tmp_path))
    variant = problem.tests()[0]
    inputs = problem.inputs(variant, 2)
    source = problem.render({})
    stand_ins = {"from task import input_t, output_t": "from typing import Any as input_t, Any as output_t"}
    for said, instead in stand_ins.items():
        source = source.replace(said, instead)
    source = source.replace("from utils import make_match_reference", problem.modules["utils"])
    output = run(source, problem, variant, inputs)
    assert np.allclose(output.numpy(), problem.reference(variant, inputs), rtol=1e-5)


@pytest.mark.parametrize(
    ("check", "rtol"),
    [
        ("check_implementation = make_match_reference(ref_kernel, rtol=3e-3, atol=1e-3)", 3e-3),
        ("check_implementation = make_match_reference(ref_kernel)", 1e-5),
        (
            "from utils import verbose_allclose\n"
            "def check_implementation(data, output):\n"
            "    return verbose_allclose(output, ref_kernel(data), rtol=1e-6 * data.shape[0], atol=0.0)",
            4.8e-5,  # the larger of two cases, which has 48 rows
        ),
        (
            "def check_implementation(data, output):\n"
            "    return torch.allclose(output, ref_kernel(data), 2e-4, 2e-4), ''",
            2e-4,
        ),
        ("", 1e-2),
    ],
)
def test_the_tolerance_is_what_the_folders_own_check_asks_for(tmp_path, check, rtol):
    body = REFERENCE[: REFERENCE.index("check_implementation")]
    problem = load_problem(folder(tmp_path, body + check))
    assert problem.tolerance(Precision.FP16).rtol == pytest.approx(rtol)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("    assert data.dtype == torch.float32\n    return torch.softmax(data, -1)", "AssertionError"),
        ("    return data.view(torch.int32).float() / 2**30", "in fp64"),
    ],
)
def test_a_reference_that_fp64_breaks_runs_as_it_is_written(tmp_path, body, why):
    before = REFERENCE[: REFERENCE.index("    return torch.softmax")]
    problem = load_problem(folder(tmp_path, f"{before}{body}\n"))
    variant = problem.tests()[0]
    inputs = problem.inputs(variant, 4)
    found = problem.reference(variant, inputs)
    assert why in problem.why_narrow
    module = {}
    exec("import torch\ndef reference(data):\n" + body, module)
    assert np.array_equal(found, module["reference"](torch.from_numpy(inputs["input"])).double().numpy())


def test_types_that_numpy_lacks_come_with_the_same_values(tmp_path):
    body = REFERENCE.replace("generator=gen)", "generator=gen, dtype=torch.bfloat16).t()")
    problem = load_problem(folder(tmp_path, body))
    variant = problem.tests()[0]
    assert variant.precision is Precision.FP16
    assert problem.specs(variant)["input"].dtype == problem.output(variant).dtype == "bfloat16"
    inputs = problem.inputs(variant, 1)
    assert inputs["input"].dtype == np.float32
    assert torch.equal(tensors(problem, variant, inputs)["input"].float(), torch.from_numpy(inputs["input"]))
    exact, rounded = problem.reference(variant, inputs), problem.reference(variant, inputs, half)
    assert 5e-4 < np.linalg.norm(rounded - exact) / np.linalg.norm(exact) < 5e-3  # of eight bits, not eleven
    assert problem.tolerance(Precision.FP16).relative_l2 > 1e-2


SAME_NAMES = """
import torch
import torch.nn as nn

class ModelNew(nn.Module):
    def __init__(self, features, hidden_sizes, classes):
        super().__init__()
        sizes = [features, *hidden_sizes]
        layers = []
        for size, following in zip(sizes, sizes[1:]):
            layers += [nn.Linear(size, following), nn.ReLU()]
        self.network = nn.Sequential(*layers, nn.BatchNorm1d(sizes[-1]), nn.Linear(sizes[-1], classes))
        self.bias = nn.Parameter(torch.randn(classes))

    def forward(self, x):
        return torch.add(self.bias, self.network(x))
"""
SAME_ORDER = SAME_NAMES.replace("self.network", "self.layers").replace("self.bias", "self.offset")


@pytest.mark.parametrize("source", [SAME_NAMES, SAME_ORDER])
def test_a_model_new_is_built_with_the_reference_models_parameters(source):
    problem = load_problem(MLP)
    variant = problem.correctness()[0]
    inputs = problem.inputs(variant, 8)
    state = {name: value.copy() for name, value in inputs.items()}
    expected = problem.reference(variant, inputs)
    assert not problem.why_narrow
    assert np.allclose(run(source, problem, variant, inputs).numpy(), expected, rtol=1e-3, atol=1e-4)
    assert all(np.array_equal(inputs[name], state[name]) for name in state)
    assert {name for name in inputs if name.startswith("state.")} == problem.weights(variant)
    module = {}
    exec(problem.complete(source), module)
    first, second = (build(problem.arguments(variant), tensors(problem, variant, inputs)) for _ in range(2))
    for value in second["state"].values():
        value.mul_(2)
    before = module["custom_kernel"](first)
    assert not torch.equal(before, module["custom_kernel"](second))  # the state that is given, not the first one
    assert torch.equal(before, module["custom_kernel"](first))


def test_a_model_new_with_other_parameters_is_refused():
    problem = load_problem(MLP)
    variant = problem.correctness()[0]
    source = SAME_NAMES.replace("torch.randn(classes)", "torch.randn(classes, 1)")
    with pytest.raises(TypeError, match=r"bias.*expected those of Model"):
        run(source, problem, variant, problem.inputs(variant, 1))


def test_a_model_files_sizes_are_shrunk_for_the_interpreter_and_its_seed_runs():
    problem = load_problem(MLP)
    whole = problem.benchmark()[0]
    assert whole.parameters == {
        "batch_size": 128, "features": 2048, "hidden_sizes.0": 4096, "hidden_sizes.1": 4096, "classes": 1000
    }  # fmt: skip
    assert problem.flops(whole) == 2 * 128 * (2048 * 4096 + 4096 * 4096 + 4096 * 1000)
    cases = problem.correctness(1)
    assert all(problem.flops(case) < 5e8 for case in cases)
    assert any(case["batch_size"] % 2 for case in cases)
    inputs = problem.inputs(cases[0], 1)
    output = run(problem.seed_source(), problem, cases[0], inputs)
    assert np.allclose(output.detach().numpy(), problem.reference(cases[0], inputs), rtol=1e-3, atol=1e-4)
    own = "def custom_kernel(data):\n    return data['inputs'][0]\n"
    assert problem.complete(own) == own


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("task.yml", None, "can't be read"),
        ("task.yml", "tests: [}", "expected YAML"),
        ("task.yml", "- tests", "expected a mapping"),
        ("task.yml", TASK.replace("benchmarks", "others"), "lacks benchmarks"),
        ("task.yml", "lang: py\ntests: 7\nbenchmarks: []\n", "tests"),
        ("task.yml", TASK.replace("rows: 16", "rows: {a: 1}"), "tests.0.rows"),
        ("task.yml", TASK.replace("lang: py", "lang: cu"), "lang is 'cu'"),
        ("task.yml", b"\xff\xfe\x00", "UTF-8"),
        ("reference.py", None, "can't be read"),
        ("reference.py", "def generate_input(:", "doesn't parse at line 1"),
        ("reference.py", "def generate_input(seed): pass\n", "lacks ref_kernel"),
    ],
)
def test_a_damaged_folder_is_named_with_what_was_expected(tmp_path, name, text, said):
    place = folder(tmp_path)
    if text is None:
        (place / name).unlink()
    else:
        (place / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigurationError) as caught:
        load_problem(place)
    assert str(place / name) in str(caught.value)
    assert said in str(caught.value)
    assert "expected" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("none.py", None, "can't be read"),
        ("half.py", "class Model: pass\n", "lacks get_inputs, get_init_inputs"),
        ("words.txt", "hello", "neither"),
        ("nowhere", None, "no such file"),
    ],
)
def test_what_is_no_problem_says_what_one_is(tmp_path, name, text, said):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_problem(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("    raise KeyError('nothing')", r"KeyError at reference.py, line 11"),
        ("    return data, data", "returns a tuple of 2, expected one tensor"),
        ("    import absent_package", "No module named 'absent_package'"),
        ("    import os; os._exit(0)", "ended before it answered"),
    ],
)
def test_a_reference_that_doesnt_run_is_named_with_its_line(tmp_path, body, said):
    before = REFERENCE[: REFERENCE.index("    return torch.softmax")]
    with pytest.raises(ConfigurationError, match=said) as caught:
        load_problem(folder(tmp_path, f"{before}{body}\n"))
    assert str(tmp_path / "reference.py") in str(caught.value)


def test_inputs_that_no_seed_decides_are_refused(tmp_path):
    body = REFERENCE.replace(".manual_seed(seed)", ".manual_seed(int.from_bytes(__import__('os').urandom(4)))")
    with pytest.raises(ConfigurationError, match=r"two draws with one seed differ in \['input'\]"):
        load_problem(folder(tmp_path, body))


@pytest.mark.parametrize(("start", "refused"), [("", False), ("room + ", True)], ids=["written", "read as well"])
def test_what_memory_held_before_is_refused_only_where_the_reference_reads_it(tmp_path, start, refused):
    body = REFERENCE.replace(
        '    return torch.randn(rows, width, device="cuda", generator=gen)',
        "    held = int.from_bytes(__import__('os').urandom(2))\n"
        "    return torch.randn(rows, width, generator=gen), torch.full((rows, width), float(held))",
    ).replace(
        "    return torch.softmax(data, -1)",
        f"    data, room = data\n    room.copy_({start}torch.softmax(data, -1))\n    return room",
    )
    if refused:
        with pytest.raises(ConfigurationError, match=r"two draws with one seed differ in \['1'\]"):
            load_problem(folder(tmp_path, body))
        return
    problem = load_problem(folder(tmp_path, body))
    assert problem.buffers(problem.benchmark()[0]) == {"1"}


def test_foreign_code_runs_apart_from_this_process(tmp_path):
    marker = tmp_path / "marker"
    marker.write_text("ours")
    with pytest.raises(ConfigurationError, match=r"reference\.py, line 1"):
        load_problem(folder(tmp_path, f"open({str(marker)!r}, 'w').write('theirs')\n{REFERENCE}"))
    assert marker.read_text() == "ours"


def test_a_loaded_problem_is_found_by_a_name_that_follows_its_content(tmp_path):
    problem = load_problem(folder(tmp_path))
    assert registered_problem(problem.name) is problem
    copy = shutil.copytree(tmp_path, tmp_path.parent / f"{tmp_path.name}_2" / tmp_path.name)
    assert load_problem(copy / "task.yml").name == problem.name
    assert load_problem(folder(copy, REFERENCE.replace("-1", "0"))).name != problem.name


def test_packages_register_problems_and_one_that_fails_warns(tmp_path, monkeypatch):
    (tmp_path / "acme_problems.py").write_text(
        f"vector = {str(SUM)!r}\ndef broken():\n    raise OSError('no disk')\nnumber = int\n"
    )
    metadata = tmp_path / "acme_problems-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-problems\nVersion: 1\n")
    points = "\n".join(f"acme_{name} = acme_problems:{name}" for name in ("vector", "broken", "number", "absent"))
    (metadata / "entry_points.txt").write_text(f"[pawl.problems]\n{points}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = registered_problem("acme_vector")
    assert found is not None
    assert found.name.startswith("vectorsum@")
    for name, said in (("broken", "no disk"), ("number", "isn't a KernelProblem"), ("absent", "AttributeError")):
        with pytest.warns(RuntimeWarning, match=f"acme_{name}.*acme-problems.*{said}"):
            assert registered_problem(f"acme_{name}") is None
    assert registered_problem("acme_unknown") is None
