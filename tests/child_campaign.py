"""Runs campaigns in processes of their own, for tests that watch, race and kill them; spoken to in JSON lines.

A start of Python with LangGraph takes seconds of CPU time. So this program imports everything once and forks for each
request: what runs, dies and is resumed is the fork, with a process id, a memory and a failpoint of its own.

    {"home": "/tmp/h", "campaign": "c", "fault": "*:17", ...}  ->  {"pid": 123}  ->  {"status": -9}

What the fork has to tell it writes to the request's `log`, a JSON object a line.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from pawl.core import Home, PawlError, Settings, faults
from pawl.evals.races import RaceRules
from pawl.graph.services import LocalFactory
from pawl.graph.session import Session
from pawl.nodes.decision import Decision, Diagnosis, Lever, Objective, Operator
from pawl.nodes.editor import Edit
from pawl.nodes.evidence import RoundEvidence
from pawl.nodes.state import CampaignRules
from pawl.safety import default_sandbox
from pawl.serving.policy import Endpoint

SMALL: Mapping[str, Any] = {
    "rounds": 1,
    "sealed_seed": 11,
    # Few sealed items, and an alpha that lets a real improvement through on so few.
    "races": RaceRules(holdout=14, regression=8, adversarial=4, guard_items=2, alpha=0.9, looks=1),
    "shadow_items": 1,
    "monitor_items": 2,
    "training": {
        "epochs": 4,
        "minibatch": 8,
        "learning_rate": 0.01,
        "rank": 4,
        "alpha": 8.0,
        "loss": {"clip_low": 20.0, "clip_high": 20.0, "truncation": 20.0},
        "precision": "float32",
    },
}


def small_rules(**changes: Any) -> CampaignRules:
    """Rules of a campaign of seconds: everything happens, with few items."""
    return CampaignRules.model_validate({**SMALL, **changes})


class Script:
    """A double for the decision alone: pulls the given levers, one a round, then stops."""

    def __init__(self, levers: list[Lever]) -> None:
        self._levers = levers
        self.seen: list[RoundEvidence] = []

    async def decide(self, evidence: RoundEvidence) -> Decision:
        self.seen.append(evidence)
        left = self._levers[evidence.round - 1 :]
        lever = left[0] if left else Lever.STOP
        return Decision(
            lever=lever,
            diagnosis=Diagnosis.SPREAD,
            objective=Objective.GROUP_RELATIVE if lever is Lever.WEIGHTS else None,
            reason="as the test says",
            evidence=[trajectory.id for trajectory in evidence.trajectories[:2]],
        )


BETTER_AGENT = """
from client import Policy, answer, load_item
policy, word = Policy(), load_item()["payload"]["context"]
labels = [policy.choose(f"{word}:", [" A", " B"]).strip(), "C", "D"]
values = {label: policy.tool("verify", {"output": {"label": label}})["value"] for label in labels}
answer({"label": max(sorted(values), key=values.get)})
"""
"""Better than any model that answers once: it tries the two labels that are ever rewarded most."""


class BetterAgent:
    """A double for the edit alone: an agent that is sure to win its races; each further one differs by a comment."""

    async def edit(self, scaffold: Mapping[str, bytes], decision: Decision, evidence: RoundEvidence, seed: int) -> Edit:
        agent = f"# round {evidence.round}{BETTER_AGENT}"
        return Edit(files={"agent.py": agent}, operator=Operator.FILES, summary="as the test says", diff="+ tries C, D")


class SharedServer(LocalFactory):
    """The real services over a model server that runs already; decision and edit are as the test says."""

    def __init__(self, endpoint: Endpoint, *levers: Lever) -> None:
        super().__init__()
        self._endpoint = endpoint
        self.script = Script(list(levers))

    async def endpoint(self, home: Home, settings: Settings) -> Endpoint:
        return self._endpoint

    def feedback(self, endpoint: Endpoint) -> Script:
        return self.script

    def editor(self, endpoint: Endpoint) -> BetterAgent:
        return BetterAgent()


def _say_where(say: Any) -> None:
    """Have the failpoint that kills this process tell its name, and what was about to be done, just before."""
    kill = os.kill

    def telling(pid: int, number: int) -> None:
        frame = sys._getframe(1)
        if pid == os.getpid() and number == signal.SIGKILL and frame.f_code is faults.point.__code__:
            caller = frame.f_back.f_locals if frame.f_back is not None else {}
            what = caller.get("event_id") or caller.get("key") or caller.get("status") or ""
            say({"kind": "death", "point": frame.f_locals["name"], "what": str(what)})
        kill(pid, number)

    os.kill = telling


async def _run(request: Mapping[str, Any], say: Any) -> None:
    endpoint = Endpoint.model_validate({**request["endpoint"], "api_key": SecretStr(request["key"])})
    factory = SharedServer(endpoint, *(Lever(each) for each in request["levers"]))
    settings = Settings(model_dir=Path(request["model_dir"]), database_url=request.get("database_url"))
    campaign = request["campaign"]
    async with Session(request["home"], settings=settings, factory=factory) as session:
        if request.get("answer"):
            [waiting] = session.pending(campaign)
            session.answer(campaign, request.get("to") or waiting.id, request["answer"])
            return
        if request.get("rules") and campaign not in {row.id for row in session.campaigns()}:
            rules = CampaignRules.model_validate(request["rules"])
            session.create("labels", rules=rules, seed=request["seed"], campaign=campaign)
        async for event in session.stream(campaign):
            say(event.model_dump(mode="json"))


def _fork(request: Mapping[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    with Path(request["log"]).open("a") as log:

        def say(message: Mapping[str, Any]) -> None:
            log.write(json.dumps(message) + "\n")
            log.flush()

        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log.fileno(), 2)
        os.dup2(log.fileno(), 1)
        _say_where(say)
        for variable, name in (("PAWL_FAULT", "fault"), ("PAWL_JUDGE_FAULT", "judge_fault")):
            if request.get(name):
                os.environ[variable] = request[name]
        code = 1
        try:
            if request.get("at"):
                say({"kind": "ready"})
                while not Path(request["at"]).exists():
                    pass
            asyncio.run(_run(request, say))
            code = 0
        except PawlError as error:
            say({"kind": "error", "type": type(error).__name__, "message": str(error)})
        finally:
            log.flush()
            os._exit(code)


def main() -> None:
    """Fork for each request until the standard input ends."""
    import scipy.stats  # noqa: F401 - what a run would import late, once for all forks

    from pawl.evals.judge_client import JudgeClient  # noqa: F401
    from pawl.evals.registry import load_task  # noqa: F401
    from pawl.serving.adapters import AdapterPublisher  # noqa: F401
    from pawl.serving.runner import run_rollouts  # noqa: F401
    from pawl.training.backends import LocalBackend  # noqa: F401

    default_sandbox()
    for line in sys.stdin:
        pid = _fork(json.loads(line))
        print(json.dumps({"pid": pid}), flush=True)
        print(json.dumps({"status": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}), flush=True)


if __name__ == "__main__":
    main()
