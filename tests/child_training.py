"""Trains run dirs in processes of their own, for tests that kill them; spoken to in JSON lines.

Importing torch and its company takes seconds. So this program does it once and forks for each request: what trains and
dies is the fork. With `ranks`, as many forks train one job together, as torchrun has them do.

    {"run": "/tmp/run", "fault": "*:5"}  ->  {"status": -9}
    {"run": "/tmp/run", "ranks": 2}      ->  {"status": 0}
"""

import json
import os
import socket
import sys
from pathlib import Path

import peft.tuners.lora  # noqa: F401
import transformers.models.llama.modeling_llama  # noqa: F401

import pawl.training.loop
import pawl.training.supervised.preference
import pawl.training.supervised.sft  # noqa: F401
from pawl.training import RunDir, rank
from pawl.training.__main__ import main


def train(run: str, fault: str | None) -> int:
    """Fork a trainer of the run dir, which dies at the fault, and return how it ended."""
    child = os.fork()
    if child == 0:
        if fault is not None:
            os.environ["PAWL_FAULT"] = fault
        os._exit(main([run]))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def train_together(run: str, ranks: int) -> int:
    """Fork a job's ranks, and return how the first of them that failed ended, or 0."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks), "GLOO_SOCKET_IFNAME": "lo"}
    children: list[int] = []
    with RunDir(Path(run)).lock():
        for number in range(ranks):
            child = os.fork()
            if child == 0:
                os.environ.update(meet | {"RANK": str(number), "LOCAL_RANK": str(number)})
                try:
                    rank.main(Path(run))
                    os._exit(0)
                finally:
                    os._exit(1)
            children.append(child)
        ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return next((each for each in ended if each), 0)


for line in sys.stdin:
    request = json.loads(line)
    if "ranks" in request:
        status = train_together(request["run"], request["ranks"])
    else:
        status = train(request["run"], request.get("fault"))
    print(json.dumps({"status": status}), flush=True)
