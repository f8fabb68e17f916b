"""`python -m pawl.training.rank RUN_DIR`: one of a job's processes, told by torchrun's variables which one."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false
# pyright: reportUntypedFunctionDecorator=false

import ctypes
import os
import signal
import sys
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import record

from ..safety.telemetry.jobs import SPANS, JobSpans
from .loop import train
from .placement import devices_of
from .ranks import join, leave
from .rundir import RunDir

_PR_SET_PDEATHSIG = 1


@record  # an error is left in a file for the process that waits
def main(path: Path) -> None:
    """Train this process's share of a job."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))  # its lock is freed when it dies
    if os.getppid() != parent:
        sys.exit(1)
    run = RunDir(path)
    ranks = join(devices_of(run.job())[0])
    train(run, JobSpans(run.path / SPANS, os.environ if ranks.leads else {}), ranks)
    leave(ranks)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
