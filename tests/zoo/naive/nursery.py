"""Runs graders, each in a process of its own that is forked from one that has torch and Triton loaded.

Reads jobs from its standard input, a JSON line each: `script` (a file of this folder),
`submission`, `problem`, `environment`, and whether programs run `one_by_one`. Answers
with a line each: what the script printed, and how it ended. Each job's folder is fresh and its process group is ended
after it, since submissions of the zoo leave files, threads and processes behind.
"""

import json
import os
import runpy
import select
import shutil
import signal
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TRITON_INTERPRET", "1")

from pawl.kernels.inside import interpret

SECONDS = 60


def run(job):
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as said:
        shutil.copy(job["submission"], Path(folder, "submission.py"))
        pid = os.fork()
        if pid == 0:
            os.setsid()
            act(job, folder, said.fileno())
        watch = os.pidfd_open(pid)
        timed_out = not select.select([watch], [], [], SECONDS)[0]
        os.close(watch)
        for end in (os.killpg, os.kill):
            try:
                end(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        _, status = os.waitpid(pid, 0)
        for left in Path("/dev/shm").glob(f"kept-{pid}-*"):
            left.unlink()
        said.seek(0)
        text = said.read().decode(errors="replace")
    return {"code": os.waitstatus_to_exitcode(status), "timed_out": timed_out, "said": text}


def act(job, folder, said):
    try:
        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(said, 1)
        os.dup2(said, 2)
        os.close(said)
        sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1, closefd=False)
        os.environ.update(job.get("environment", {}))
        if not job["one_by_one"]:
            interpret.install()  # many programs at once: Triton's own interpreter takes minutes for large inputs
        sys.argv = [job["script"], str(Path(folder, "submission.py")), job["problem"]]
        runpy.run_path(job["script"], run_name="__main__")
        sys.stdout.flush()
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        os._exit(1)
    os._exit(0)


def main():
    sys.path.insert(0, str(Path(__file__).parent))
    import contract
    import torch

    torch.set_num_threads(1)  # a process that has used OpenMP's threads can't be forked
    for name in ("trimul", "softmax"):
        contract.Task(name).reference(contract.Task(name).data(0))
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
