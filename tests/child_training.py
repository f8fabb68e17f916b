"""Trains run dirs in processes of their own, for tests that kill them; spoken to in JSON lines.

Importing torch and its company takes seconds. So this program does it once and forks for each request: what trains and
dies is the fork.

    {"run": "/tmp/run", "fault": "*:5"}  ->  {"status": -9}
"""

import json
import os
import sys

import peft.tuners.lora  # noqa: F401
import transformers.models.llama.modeling_llama  # noqa: F401

import pawl.training.loop  # noqa: F401
from pawl.training.__main__ import main


def train(run: str, fault: str | None) -> int:
    """Fork a trainer of the run dir, which dies at the fault, and return how it ended."""
    child = os.fork()
    if child == 0:
        if fault is not None:
            os.environ["PAWL_FAULT"] = fault
        os._exit(main([run]))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


for line in sys.stdin:
    request = json.loads(line)
    print(json.dumps({"status": train(request["run"], request.get("fault"))}), flush=True)
