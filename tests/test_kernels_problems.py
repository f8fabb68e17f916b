"""Promises that every problem in the house keeps."""

import ast
import json

import numpy as np
import pytest

from pawl.kernels import PROBLEMS, Distribution, FailureClass, Precision, find_problem
from pawl.kernels.grade import half, measure, verdict

from .kernel_modules import Job, compile_modules, run_modules

NAMES = sorted(PROBLEMS)
ROWS = [name for name in NAMES if name != "trimul"]

every = pytest.mark.parametrize("problem", [PROBLEMS[name] for name in NAMES], ids=NAMES)


@every
def test_variants_are_of_their_problem_and_of_few_slices(problem):
    drawn = problem.draw(3, 200)
    for variant in (*problem.tests(), *problem.benchmark(), *problem.correctness(1), *drawn):
        assert find_problem(variant.problem) is problem
        assert problem.least_bytes(variant) > 0
        assert problem.flops(variant) >= 0
    assert 1 < len({problem.slice_of(variant) for variant in drawn}) <= 4
    assert problem.draw(3, 5, start=20) == drawn[20:25]
    assert problem.draw(4, 200) != drawn


@every
def test_small_cases_are_drawn_odd_sizes_and_every_distribution_among_them(problem):
    drawn = [problem.correctness(seed) for seed in range(40)]
    assert problem.correctness(7) == drawn[7]
    assert len({tuple(map(str, cases)) for cases in drawn}) > 15
    for cases in drawn:
        assert {case.distribution for case in cases} == set(Distribution)
        assert any(type(size) is int and size > 2 and size % 2 for case in cases for size in case.parameters.values())
        assert sum(map(problem.least_bytes, cases)) < 20e6
        assert sum(map(problem.flops, cases)) < 3e9


@every
def test_smaller_variants_lead_up_to_the_variant_in_one_parameter(problem):
    for variant in (*problem.benchmark(), *problem.draw(2, 10), *problem.correctness(0)):
        smaller = problem.smaller(variant)
        assert smaller[-1] == variant
        costs = [problem.least_bytes(each) for each in smaller]
        assert costs == sorted(set(costs))
        changed = {
            name for each in smaller for name, value in each.parameters.items() if value != variant.parameters[name]
        }
        assert len(changed) <= 1
        for name in changed:
            assert {each[name] % 2 for each in smaller} == {variant[name] % 2}


@every
def test_inputs_are_as_specified_and_come_of_the_seed_alone(problem):
    for variant in problem.correctness(3):
        specs = problem.specs(variant)
        inputs, again, other = (problem.inputs(variant, seed) for seed in (5, 5, 6))
        assert {n: (a.shape, str(a.dtype)) for n, a in inputs.items()} == {
            n: (s.shape, s.dtype) for n, s in specs.items()
        }
        assert all(np.array_equal(inputs[name], again[name]) for name in specs)
        assert all(np.isfinite(array).all() for array in inputs.values())
        fixed = {"mask"} if not variant.parameters.get("mask", True) else set()
        assert not any(a.size > 3 and np.array_equal(a, other[n]) for n, a in inputs.items() if n not in fixed)
        assert problem.weights(variant) < set(specs)
        assert sorted(_tensors(problem.arguments(variant))) == sorted(specs)
        reference = problem.reference(variant, inputs)
        assert reference.shape == problem.output(variant).shape
        assert np.isfinite(reference).all()


def _tensors(plan):
    if isinstance(plan, dict):
        return [plan["tensor"]] if set(plan) == {"tensor"} else [n for part in plan.values() for n in _tensors(part)]
    return [name for part in plan for name in _tensors(part)] if isinstance(plan, list) else []


@every
def test_no_answer_is_right_that_does_not_depend_on_the_inputs(problem):
    """A problem is weak whose output is small, the same for all seeds, or level along an axis (METR, robust-kbench)."""
    for variant in problem.correctness(2):
        inputs = problem.inputs(variant, 1)
        reference = problem.reference(variant, inputs)
        guesses = {
            "zeros": np.zeros_like(reference),
            "another seed's": problem.reference(variant, problem.inputs(variant, 2)),
            "its mean": np.full_like(reference, reference.mean()),
        }
        for axis, size in enumerate(reference.shape):
            if size > 1:
                level = reference.mean(axis, keepdims=True)
                guesses[f"level along {axis}"] = np.broadcast_to(level, reference.shape)
                guesses[f"turned along {axis}"] = np.roll(reference, 1, axis)
        for name, guess in guesses.items():
            output = np.ascontiguousarray(guess).astype(problem.output(variant).dtype)
            found = verdict(measure(problem, variant, inputs, output), problem.tolerance(variant.precision))
            assert found is not None, (name, str(variant))


@every
def test_every_input_influences_the_output(problem):
    for variant in problem.correctness(4)[:3]:
        inputs = problem.inputs(variant, 1)
        others = problem.inputs(variant, 2)
        for name in inputs:
            if np.array_equal(inputs[name], others[name]):
                continue
            changed = problem.reference(variant, inputs | {name: others[name]})
            output = changed.astype(problem.output(variant).dtype)
            found = verdict(measure(problem, variant, inputs, output), problem.tolerance(variant.precision))
            assert found is not None, (name, str(variant))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "attention"])
def test_a_dropped_last_term_shows_in_the_needles_that_lie_there(name):
    problem, seen = PROBLEMS[name], 0
    for seed in range(8):
        for variant in problem.correctness(seed):
            inputs = problem.inputs(variant, seed)
            if variant.distribution is Distribution.NEEDLE and is_last(problem, inputs):
                seen += 1
                output = without_last(problem, variant, inputs).astype(problem.output(variant).dtype)
                case = measure(problem, variant, inputs, output)
                assert verdict(case, problem.tolerance(variant.precision)) is not None, case
    assert seen >= 2


def test_a_needle_among_keys_takes_most_of_the_attention():
    problem = PROBLEMS["attention"]
    for seed in range(4):
        for variant in problem.correctness(seed):
            if variant.distribution is Distribution.NEEDLE:
                inputs = problem.inputs(variant, seed)
                taken = problem.reference(variant, inputs)[0, 0, -1]
                distances = np.linalg.norm(inputs["v"][0, 0].astype(np.float64) - taken, axis=1)
                assert distances.min() < 0.5 * np.linalg.norm(taken)


@every
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 100))])
def test_honest_runs_pass_at_half_of_every_limit_and_scaled_ones_fail(problem, seed):
    for variant in problem.correctness(seed):
        whole = problem.tolerance(variant.precision)
        halves = {name: getattr(whole, name) / 2 for name in ("rtol", "atol", "relative_l2", "slope")}
        inputs = problem.inputs(variant, seed)
        rounding = half if variant.precision is Precision.FP16 else single
        output = problem.reference(variant, inputs, rounding)
        kind = problem.output(variant).dtype
        case = measure(problem, variant, inputs, output.astype(kind))
        assert verdict(case, whole.model_copy(update=halves)) is None, case
        for factor in (1.01, 0.995):
            scaled = measure(problem, variant, inputs, (factor * output).astype(kind))
            found = verdict(scaled, whole)
            assert found is not None, (factor, scaled)
            assert found[0] in (FailureClass.BIAS, FailureClass.WRONG_RESULT)


def single(values):
    return values.astype(np.float32).astype(np.float64)


def is_last(problem, inputs):
    """Whether the needle is the last term: the others together are lighter."""
    if problem.name == "trimul":
        weight = np.square(inputs["input"]).sum(axis=(0, 1, 3))
    elif problem.name == "matmul":
        weight = np.square(inputs["a"].astype(np.float64)).sum(axis=0)
    else:
        weight = inputs["logits" if problem.name == "cross_entropy" else "x"].sum(axis=0)
    return weight.argmax() == len(weight) - 1


def without_last(problem, variant, inputs):
    """The output of an implementation that leaves the last term of each sum out."""
    given = {name: array.copy() for name, array in inputs.items()}
    if problem.name == "trimul":
        given["mask"][:, :, -1] = 0
    elif problem.name == "matmul":
        given["a"][:, -1] = 0
    elif problem.name == "layer_norm":
        given["x"][:, -1] = given["x"][:, :-1].mean(axis=1)
    else:
        given["x" if problem.name == "softmax" else "logits"][:, -1] = -200
    return problem.reference(variant, given)


@every
def test_schedules_render_to_modules_whose_launches_name_their_kernels(problem):
    texts = [problem.render(problem.space.sample(seed)) for seed in range(40)]
    assert len(set(texts)) == len({json.dumps(problem.space.sample(seed)) for seed in range(40)})
    for text in (*texts, problem.seed_source()):
        tree = ast.parse(text)
        defined = {n.name for n in tree.body if isinstance(n, ast.FunctionDef) and n.decorator_list}
        calls = [n.func.value for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Subscript)]
        launched = {n.id for n in calls if isinstance(n, ast.Name)}
        assert launched
        assert launched <= defined


@every
def test_what_is_said_of_a_problem_names_its_contract(problem):
    assert "custom_kernel(" in problem.about
    assert problem.output(problem.tests()[0]).dtype.removeprefix("float") in problem.about


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The cases of the plain kernel and of a schedule of every problem but TriMul."""
    jobs = {}
    for name in ROWS:
        problem = PROBLEMS[name]
        cases = tuple(problem.correctness(11))
        jobs[name, "seed"] = Job(problem, problem.seed_source(), cases)
        jobs[name, "schedule"] = Job(problem, problem.render(problem.space.sample(1)), cases)
    found = run_modules(tmp_path_factory.mktemp("modules"), list(jobs.values()), seed=4)
    return dict(zip(jobs, found, strict=True))


@pytest.mark.parametrize("which", ["seed", "schedule"])
@pytest.mark.parametrize("name", ROWS)
def test_plain_kernels_and_schedules_are_right(ran, name, which):
    problem = PROBLEMS[name]
    for case, variant in zip(ran[name, which], problem.correctness(11), strict=True):
        assert verdict(case, problem.tolerance(variant.precision)) is None, case


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_plain_kernels_compile_for_the_device(name, tmp_path):
    problem = PROBLEMS[name]
    assert compile_modules(tmp_path, [Job(problem, problem.seed_source(), (problem.benchmark()[0],))]) >= 1


@pytest.mark.slow
@every
def test_a_sample_of_every_space_is_right_and_compiles(problem, tmp_path):
    # Between them the samples hold every option of every field.
    schedules = [problem.space.sample(seed) for seed in range(16)]
    for field in problem.space.fields:
        assert {schedule[field.name] for schedule in schedules} == set(field.options)
    jobs = [
        Job(problem, problem.render(schedule), tuple(problem.correctness(seed)))
        for seed, schedule in enumerate(schedules)
    ]
    for job, cases in zip(jobs, run_modules(tmp_path, jobs, seed=9), strict=True):
        for variant, case in zip(job.variants, cases, strict=True):
            assert verdict(case, problem.tolerance(Precision.FP16)) is None, (case, str(variant))
    large = [Job(problem, job.source, (problem.benchmark()[0], problem.benchmark()[-1])) for job in jobs]
    assert compile_modules(tmp_path / "compiled", large) >= 16
