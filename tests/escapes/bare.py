"""A plain subprocess, as one who knows no danger would start it: everything is inherited, nothing is bounded.

It shows that a probe's attack works; a probe that fails here proves nothing where it fails in a sandbox.
"""

import asyncio
import os
import subprocess
import tempfile
import time

from pawl.safety.sandbox import Command, Ending, Layer, Result


class Bare:
    """Looks like a sandbox and is none."""

    @property
    def layers(self) -> frozenset[Layer]:
        """None."""
        return frozenset()

    async def run(self, command: Command) -> Result:
        """Run a command with the environment, descriptors and rights of this process."""
        return await asyncio.to_thread(_run, command)


def _run(command: Command) -> Result:
    began = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        environment = {**os.environ, "HOME": str(command.work), **command.env}
        process = subprocess.Popen(
            command.argv,
            cwd=command.work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            close_fds=False,
            start_new_session=True,
        )
        try:
            code, ending = process.wait(command.limits.wall_seconds), Ending.EXITED
        except subprocess.TimeoutExpired:
            process.kill()
            code, ending = process.wait(), Ending.TIMED_OUT
        out.seek(0)
        err.seek(0)
        return Result(
            ending=Ending.SIGNALLED if code < 0 and ending is Ending.EXITED else ending,
            status=abs(code),
            stdout=out.read(64 << 20),
            stderr=err.read(1 << 20),
            wall_seconds=time.monotonic() - began,
            cpu_seconds=0.0,
        )
