"""`python -m pawl.training RUN_DIR`: train the job of a run dir to its end, whoever starts it.

Exit status: 0 the adapter is there; 1 it crashed; 2 the job or its datums were refused; 3 it was cancelled.
What happened is also in the run dir's status.json. A second process waits for the first and then has nothing to do.
"""

import os
import sys
import traceback
from pathlib import Path

from ..core import PawlError
from ..safety.telemetry.jobs import SPANS, JobSpan, JobSpans
from .job import JobState
from .rundir import RunDir

EXIT = {JobState.SUCCEEDED: 0, JobState.FAILED: 1, JobState.CANCELLED: 3}


def main(arguments: list[str]) -> int:
    """Run one job and return the exit status."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("usage: python -m pawl.training RUN_DIR (a folder with job.json and rollouts/)", file=sys.stderr)
        return 2
    run = RunDir(Path(arguments[0]))
    with run.lock():
        status = run.status()
        if status is not None and status.state.finished:
            return EXIT[status.state]
        spans = JobSpans(run.path / SPANS, os.environ)
        try:
            with spans.span(JobSpan.TRAIN):
                with spans.span(JobSpan.IMPORT):
                    from .loop import train  # torch takes seconds to import, and a finished job needs none of it

                return EXIT[train(run, spans).state]
        except PawlError as error:
            run.fail(str(error))
            print(error, file=sys.stderr)
            return 2
        except Exception as error:
            run.fail(f"The trainer crashed: {type(error).__name__}: {error}")
            traceback.print_exc()
            return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
