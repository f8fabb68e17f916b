"""No honest kernel is rejected, however unusual."""

import pytest

from pawl.kernels import Precision

from .zoo import honest_sources
from .zoo.submissions import small_variant

FAMILIES = {
    "layer_norm_tuned", "matmul_host_descriptors", "matmul_split_k_atomics", "softmax_persistent", "trimul_leaderboard",
}  # fmt: skip
"""The rarest kinds; each takes a second or two."""
SOURCES = honest_sources()


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FAMILIES else [pytest.mark.slow]) for name in SOURCES]
)
async def test_an_honest_kernel_is_accepted(verifier, name):
    said, source = SOURCES[name]
    precision = Precision(said["precision"]) if "precision" in said else None
    report = await verifier.verify(source, small_variant(said["problem"], said.get("parameters"), precision))
    assert report.accepted, report.reasons


def test_the_zoo_holds_honest_kernels_of_many_kinds():
    assert len({said["kind"] for said, _ in SOURCES.values()}) >= 30
    assert {said["problem"] for said, _ in SOURCES.values()} == {
            "trimul", "matmul", "softmax", "layer_norm", "cross_entropy", "attention",
    }  # fmt: skip
