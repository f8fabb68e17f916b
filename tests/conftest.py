"""What holds for all tests: three run side by side on two cores, where OpenBLAS's threads only spin for one another."""

import os
import sys
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

if TYPE_CHECKING:
    from pawl.kernels import Verifier

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when NumPy is first imported, which is later
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of processes that import Pawl would each compile it
sys.dont_write_bytecode = False

LONG = (
    "test_kill",
    "test_campaign_gate",
    "test_evals_judge",
    "test_warm",
    "test_kernels_forgery",
    "test_halts",
    "test_kernels_verifier",
    "test_kernels_grade",
    "test_budget_campaign",
    "test_cli_signals",
    "test_training_supervised",
    "test_kernels_problems",
    "test_kernels_loaders",
    "test_session_postgres",
    "test_training_backend",
    "test_training_kill",
    "test_report",
    "test_cli_kernel",
    "test_training_backends",
    "test_telemetry_campaign",
    "test_parity",
    "test_escapes",
    "test_budget_leases",
    "test_bad_input",
    "test_zoo_honest",
    "test_zoo_cheats",
    "test_kernels_interpreter",
)
"""Files that take longest, longest first: whoever begins one of them last would keep the other cores waiting."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; the others stay in their order."""
    rank = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONG)))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def verifier(tmp_path_factory: pytest.TempPathFactory) -> "AsyncIterator[Verifier]":
    """One verifier for all modules, since its two warm processes take seconds to start."""
    from pawl.kernels import Verifier
    from pawl.safety.sandbox import default_sandbox

    verifier = Verifier(default_sandbox(), tmp_path_factory.mktemp("verifications"))
    yield verifier
    await verifier.close()


@pytest.fixture(scope="module", autouse=True)
def foreign_process_ended() -> Iterator[None]:
    """End the process that foreign problems share: it would live, with its control group, as long as this one."""
    yield
    loaded = sys.modules.get("pawl.kernels.loaders.process")
    if loaded is not None:
        loaded.shared_process().close()
