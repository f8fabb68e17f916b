"""The interpreter of the verifier gives what a GPU gives, sees every access, and shows races.

Triton decides at its import whether it interprets, so the checks run in a process of their own.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("checks", ["numbers_checks.py", "language_checks.py"])
def test_the_interpreter_keeps_its_promises(checks, tmp_path):
    alone = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TRITON_INTERPRET"), "1")
    command = [sys.executable, "-m", "pytest", "--rootdir", str(HERE.parent), "-c", str(HERE.parent / "pyproject.toml"),
               "-p", "no:cacheprovider", str(HERE / "interpreted" / checks)]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | alone
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
