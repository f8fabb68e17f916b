"""Whether what runs at the variant's size is the problem's work, done as it was where outputs were graded."""

import math
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from .answers import Course, Recording
from .checking import Checked
from .estimating import Estimate
from .grade import verdict
from .problem import KernelProblem, Precision, Variant
from .report import FailureClass
from .requests import Rejection

_EXACT = frozenset({"fp64", "fp32", "tf32x3", "bf16x6", "bf16x3"})
PRODUCTS = {Precision.FP32: _EXACT, Precision.FP16: _EXACT | {"fp16", "bf16", "tf32"}}
"""What products may be in at sizes where they weren't at those that are always checked."""


def same_course(recording: Recording, courses: Sequence[Course]) -> bool:
    """Whether a call launches, in order, what one of some calls launched, and uses no operator that none used."""
    course = recording.course
    used = {name for each in courses for name in each.operators}
    return course.steps in [each.steps for each in courses] and set(course.operators) <= used


def is_known(found: Estimate, checked: Checked) -> bool:
    """Whether a call does what checked calls did, its products in no other precision."""
    products = all(set(kinds) <= set(checked.products.get(name, ())) for name, kinds in found.products.items())
    return products and same_course(found.recording, checked.courses)


def in_words(course: Course) -> str:
    """What a call did, for a reason."""
    steps = [
        f"{step.kernel}({', '.join([*map(':'.join, step.types.items()), *map('='.join, step.words.items())])})"
        for step in course.steps
    ]
    return ", ".join([*steps, *course.operators]) or "nothing"


def check_correctness(problem: KernelProblem, cases: Sequence[Mapping[str, JsonValue]], variant: Variant) -> None:
    """See that every graded case keeps the contract.

    Raises:
        Rejection: one doesn't.
    """
    for case in cases:
        failed = verdict(case, problem.tolerance(variant.precision))
        if failed is not None:
            raise Rejection(*failed)


def check_products(variant: Variant, found: Estimate, checked: Checked) -> None:
    """See that no kernel's products are coarser at the variant's size than where it was checked, or the contract says.

    Long sums average rounding away, so that an error within the contract doesn't show that the products are. What
    another kernel is in says nothing: a small product may be coarse and harmless.

    Raises:
        Rejection: they are coarser.
    """
    for name, kinds in sorted(found.products.items()):
        seen = set(checked.products.get(name, ()))
        rough = kinds - seen - PRODUCTS[variant.precision]
        if rough:
            raise Rejection(
                FailureClass.PRECISION,
                f"products of {name} are in {', '.join(sorted(rough))} at this size, in "
                f"{', '.join(sorted(seen)) or 'nothing'} where outputs were checked, and the contract is "
                f"{variant.precision}",
            )


def check_share(problem: KernelProblem, found: Estimate) -> None:
    """See that Triton does enough of the estimated time.

    Raises:
        Rejection: it does less than the problem asks for.
    """
    rule = problem.triton
    triton = math.fsum(launch.time_us for launch in found.launches if launch.programs)
    others = math.fsum(
        launch.time_us
        for launch in found.launches
        if not launch.programs and launch.kernel.removeprefix("aten.").split(".")[0] not in rule.left_to_torch
    )
    if not triton:
        raise Rejection(FailureClass.NO_TRITON_KERNEL, "expected launches of @triton.jit functions; none launched")
    if triton < rule.share * (triton + others):
        raise Rejection(
            FailureClass.TORCH_SHARE,
            f"Triton does {triton / (triton + others):.0%} of the estimated time, at least {rule.share:.0%} is asked "
            f"for; besides, only {sorted(rule.left_to_torch)} may be left to torch",
        )


def check_work(problem: KernelProblem, variant: Variant, found: Estimate) -> None:
    """See that the problem's products, reads and writes are done at the variant's size.

    Raises:
        Rejection: there are fewer, a shortcut at a size whose output may not have been graded.
    """
    work, call, kept = found.work, found.recording, problem.weights(variant)
    done, needed = work.flops + found.operations, problem.flops(variant)
    if done < 0.98 * needed:
        words = f"its products take {done:.3g} operations, the problem's {needed:.3g}"
        raise Rejection(FailureClass.LESS_WORK, words)
    specs = problem.specs(variant)
    name = max(sorted(set(specs) - kept), key=lambda each: specs[each].bytes, default=None)
    if name is not None and work.read.get(call.inputs[name].t, 0.0) < 0.9 * specs[name].bytes:
        raise Rejection(FailureClass.LESS_WORK, f"it doesn't read all of {name}")
    output = problem.output(variant)
    if work.written.get(call.output.t, 0.0) < 0.9 * output.bytes:
        raise Rejection(FailureClass.LESS_WORK, "it doesn't write all of its output")
