"""What runs at the variant's size is held against what was graded: products, telling sizes apart, sizes of answers."""

import dataclasses

import pytest
import pytest_asyncio

from pawl.kernels import PROBLEMS, ChildLimits, FailureClass, Precision, Variant, Verifier, find_problem
from pawl.kernels.answers import Failure
from pawl.kernels.checking import Checked, check
from pawl.kernels.estimating import Estimate
from pawl.kernels.extract import extract_kernels
from pawl.kernels.honesty import check_products
from pawl.kernels.model import Work
from pawl.kernels.plan import plan_session
from pawl.kernels.requests import Rejection, Requests
from pawl.kernels.verifier import _answer_bytes
from pawl.safety.sandbox import default_sandbox

SOFTMAX = find_problem("softmax")


def estimated(products):
    """An estimate of which only the precisions of products matter."""
    figures = {field.name: None for field in dataclasses.fields(Estimate)}
    return Estimate(**figures | {"work": Work(), "products": products})


def checked(products):
    return Checked(cases=(), courses=(), products=products)


@pytest.mark.parametrize(
    ("precision", "at_size", "where_checked", "coarse"),
    [
        ("fp32", {"k": {"tf32x3"}}, {"k": ("tf32x3",)}, False),
        ("fp32", {"k": {"fp32"}}, {"k": ("tf32x3",)}, False),  # finer than where it was checked
        ("fp32", {"k": {"tf32"}}, {"k": ("tf32x3",)}, True),
        ("fp32", {"k": {"fp16"}}, {"k": ("fp32",)}, True),
        ("fp32", {"k": {"tf32"}}, {"other": ("tf32",)}, True),  # a small product may be coarse and harmless
        ("fp16", {"k": {"fp16"}}, {"k": ("tf32",)}, False),
        ("fp16", {"k": {"fp8"}}, {"k": ("fp16",)}, True),
        ("fp16", {"bmm": {"int8"}}, {"bmm": ("fp16",)}, True),
        ("fp16", {}, {}, False),
    ],
)
def test_products_may_not_be_coarser_than_where_they_were_checked_or_the_contract_says(
    precision, at_size, where_checked, coarse
):
    variant = SOFTMAX.tests()[0].model_copy(update={"precision": Precision(precision)})
    if not coarse:
        check_products(variant, estimated(at_size), checked(where_checked))
        return
    with pytest.raises(Rejection) as refused:
        check_products(variant, estimated(at_size), checked(where_checked))
    assert refused.value.failure is FailureClass.PRECISION
    assert all(kind in str(refused.value) for kinds in at_size.values() for kind in kinds)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_outputs_of_a_session_fit_in_an_answer_a_dozen_times(name):
    problem = PROBLEMS[name]
    for seed in range(5):
        plan = plan_session(problem.correctness(seed))
        assert 12 * sum(problem.output(call.variant).bytes for call in plan) < _answer_bytes()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def verifier(tmp_path_factory):
    verifier = Verifier(default_sandbox(), tmp_path_factory.mktemp("verifications"))
    yield verifier
    await verifier.close()


@pytest.mark.asyncio
async def test_an_answer_that_is_too_large_is_refused_for_its_size(tmp_path):
    source = SOFTMAX.seed_source()
    requests = Requests(default_sandbox(), tmp_path, None, 1, ChildLimits(), answer_bytes=100_000)
    try:
        kernels = extract_kernels(source)
        told = await check(requests.ask, SOFTMAX, source, kernels, SOFTMAX.correctness(), 1)
        assert isinstance(told, Failure)
        assert told.error[0] is FailureClass.MEMORY, told
        small = [Variant(problem="softmax", parameters={"rows": 7, "columns": 33})]
        assert not isinstance(await check(requests.ask, SOFTMAX, source, kernels, small, 1), Failure)
    finally:
        await requests.close()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_mark_of_the_byte_order_is_no_part_of_a_source(verifier):
    variant = Variant(problem="softmax", parameters={"rows": 4096, "columns": 256})
    report = await verifier.verify("\ufeff" + SOFTMAX.seed_source(), variant)
    assert report.accepted, report.reasons


TELLS = """

plain = custom_kernel


def custom_kernel(data):
    out = plain(data)
    # Where it is timed inputs have no values, nor where it is recorded at a smaller size to see what it does there.
    return out.clamp(min=-1e30) if not data.view(-1)[:8].any().item() else out
"""
LARGE = Variant(problem="softmax", parameters={"rows": 4096, "columns": 2048})


@pytest.mark.asyncio(loop_scope="module")
async def test_no_larger_size_is_graded_once_a_submission_tells_one_apart(verifier):
    folder = verifier._requests._cache.root / "correctness"
    before = len(list(folder.rglob("*.json")))
    report = await verifier.verify(SOFTMAX.seed_source() + TELLS, LARGE)
    assert report.failure_class is FailureClass.UNCHECKED, report.reasons
    assert "clamp" in report.reasons[0]
    affordable = [small for small in SOFTMAX.smaller(LARGE) if SOFTMAX.least_bytes(small) <= 128e6]
    assert len(affordable) > 1
    assert len(list(folder.rglob("*.json"))) == before + 2  # the cases that are always graded, and one smaller relative
