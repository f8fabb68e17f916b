"""Shows that a cheat cheats: its naive grader is content with it, and the truth isn't."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .submissions import Exploit, honest_source

NAIVE = Path(__file__).parent / "naive"


class Graders:
    """The naive graders, each run in a process of its own; closes what it started."""

    def __init__(self, *, on_device: bool = False) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(NAIVE / "nursery.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TRITON_INTERPRET": str(int(not on_device))},
        )
        self._honest: dict[tuple[str, str], float] = {}

    def grade(
        self, grader: str, source: str, problem: str, *, one_by_one: bool = False, **environment: str
    ) -> dict[str, Any]:
        """What a grader, or `truth`, says of a source; `said` holds all that it printed."""
        with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
            file.write(source)
            file.flush()
            job = {
                "script": str(NAIVE / f"{grader}.py"),
                "submission": file.name,
                "problem": problem,
                "environment": environment,
                "one_by_one": one_by_one,
            }
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            print(json.dumps(job), file=self._process.stdin, flush=True)
            answer = json.loads(self._process.stdout.readline())
        verdicts = re.findall(r'{"accepted": .*}$', answer["said"], re.MULTILINE)
        return {"accepted": False, "time_us": None, **(json.loads(verdicts[-1]) if verdicts else {}), **answer}

    def honest_us(self, grader: str, problem: str, *, one_by_one: bool) -> float:
        """The time that a grader gives the honest kernel.

        Raises:
            AssertionError: the grader doesn't accept it.
        """
        key = grader, problem
        if key not in self._honest:
            told = self.grade(grader, honest_source(problem), problem, one_by_one=one_by_one)
            assert told["accepted"], told["said"]
            self._honest[key] = told["time_us"]
        return self._honest[key]

    def close(self) -> None:
        """End the process that graders are forked from."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


def unproved(graders: Graders, exploit: Exploit) -> str | None:
    """Why a cheat isn't shown to be one, or none if it is."""
    ordered = exploit.proof in ("disordered", "strays") or exploit.naive == "counts_on_zeros"
    told = graders.grade(exploit.naive, exploit.source, exploit.problem, one_by_one=ordered)
    if not told["accepted"]:
        return f"{exploit.naive} rejects it: {told['said'][-600:]}"
    if exploit.proof == "oversized":  # the compiler's figures show it, in the verifier's reason
        return None
    if exploit.proof == "faster":
        honest = graders.honest_us(exploit.naive, exploit.problem, one_by_one=ordered)
        faster = told["time_us"] < 0.75 * honest
        return (
            None if faster else f"{exploit.naive} gives it {told['time_us']:.3g} us, {honest:.3g} us to the honest one"
        )
    size = "60" if exploit.naive == "two_sizes" else "8"
    if exploit.needs == "gpu":
        return _unproved_on_device(graders, exploit)
    truth = graders.grade("truth", exploit.source, exploit.problem, one_by_one=ordered, PROOF=exploit.proof, SIZE=size)
    if '"accepted"' not in truth["said"]:  # it ended the process before anything was seen, which is no answer either
        return None if exploit.proof == "wrong" and not truth["timed_out"] else f"no truth: {truth['said'][-600:]}"
    shown = {
        "wrong": lambda: truth["wrong"] > 0,
        "idle": lambda: truth["idle"],
        "copies": lambda: truth["copies"],
        "imprecise": lambda: truth["relative_l2"] > 5e-5,
        "scaled": lambda: truth["slope"] > 5e-3,
        "disordered": lambda: truth["disordered"],
        "strays": lambda: truth["strays"] > 0,
        "rewritten": lambda: truth["rewritten"] > 0,
        "reaches-out": lambda: truth["reached"],
    }
    return None if shown[exploit.proof]() else f"{exploit.proof} isn't so: {truth['said'][-600:]}"


def _unproved_on_device(graders: Graders, exploit: Exploit) -> str | None:
    truth = graders.grade("truth_on_device", exploit.source, exploit.problem)
    honest = graders.grade("truth_on_device", honest_source(exploit.problem), exploit.problem)
    if not truth["accepted"] or truth["time_us"] > 0.9 * honest["time_us"]:
        return None
    return f"it is right and faster by an honest clock: {truth['time_us']:.3g} us, {honest['time_us']:.3g} us"
