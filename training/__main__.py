"""`python -m pawl.training RUN_DIR`: train the job of a run dir to its end, whoever starts it.

Exit status: 0 the adapter is there; 1 it crashed; 2 the job or its datums were refused; 3 it was cancelled; 4 there was
no room to write.
What happened is also in the run dir's status.json. A second process waits for the first and then has nothing to do.
"""

import gc
import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from ..core import PawlError
from ..safety.telemetry.jobs import SPANS, JobSpan, JobSpans
from .job import JobState
from .room import NO_ROOM, no_room
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
                job = run.job()
                gc.disable()  # a fifth of what the import takes would go into looking for garbage in it
                with spans.span(JobSpan.IMPORT):  # torch takes seconds to import, and a finished job needs none of it
                    if job.processes > 1:
                        from .distributed import train_ranks as train
                    elif job.environment is not None:
                        from .grpo import train
                    elif job.objective.kind.supervised:
                        from .supervised.train import train
                    else:
                        from .loop import train
                gc.freeze()
                gc.enable()

                return EXIT[train(run, spans).state]
        except Exception as error:
            if no_room(error):
                return _out_of_room(run, error)
            if not isinstance(error, PawlError):
                run.fail(f"The trainer crashed: {type(error).__name__}: {error}")
                traceback.print_exc()
                return 1
            run.fail(str(error))
            print(error, file=sys.stderr)
            return 2


def _out_of_room(run: RunDir, error: Exception) -> int:
    """Say so, in the room that the unfinished checkpoint gives back; the last complete one stays."""
    run.drop_unfinished()
    found = run.last_checkpoint()
    kept = f"The checkpoint of step {found[1].step} is whole" if found is not None else "No step was finished"
    said = (
        f"The trainer had no room to write: {error}. {kept}: free some space on the run dir's disk, or raise the quota "
        "or the limit on a file's size that it met, and resume the job, which goes on from there."
    )
    print(said, file=sys.stderr)
    with suppress(OSError):  # not even for that
        run.fail(said)
    return NO_ROOM


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
