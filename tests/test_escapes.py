"""No attack of the escape suite gets out of a sandbox, cold or warm, under either set; and every one is real."""

import json
import os
import secrets
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pawl.safety import Isolation, default_sandbox
from pawl.safety.sandbox.local import why_not

from .escapes import PROBES, SETS, Arena, Bare, Verdict, Warmed, can_be_warm, kernels, try_probe

SLOW = {"pytest_hooks", "deep_folders", "inode_bomb", "moving_folders", "slow_looks"}
"""They start pytest, make thousands of files, or take their time."""
COLD = [
    pytest.param(probe, id=name, marks=[pytest.mark.slow] if name in SLOW else []) for name, probe in PROBES.items()
]
WARM = {name: probe for name, probe in PROBES.items() if can_be_warm(probe.module)}


@pytest.fixture(params=SETS)
def isolation(request):
    reason = why_not(request.param)
    if reason:
        pytest.skip(reason)
    return request.param


@pytest.mark.parametrize("probe", COLD)
async def test_no_attack_gets_out(probe, isolation, request):
    if probe.name == "file_metadata" and isolation is Isolation.LANDLOCK and os.getuid() != 0:
        reason = "Landlock leaves the status of files open, and only root can give a run a user that may not see it"
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    outcome = await try_probe(probe, default_sandbox(isolation))
    assert outcome.verdict is Verdict.HELD, (outcome.facts, outcome.ways)


@pytest.mark.slow
@pytest.mark.parametrize("probe", WARM.values(), ids=WARM)
async def test_no_attack_gets_out_of_a_child_of_a_warm_process(probe, isolation):
    outcome = await try_probe(probe, Warmed(isolation))
    assert outcome.verdict is Verdict.HELD, (outcome.facts, outcome.ways)


@pytest.mark.parametrize("probe", COLD)
async def test_every_attack_works_where_there_is_no_sandbox(probe):
    outcome = await try_probe(probe, Bare())
    assert outcome.verdict is Verdict.ESCAPED, outcome.ways


@pytest.mark.slow
async def test_no_submission_of_the_kernel_task_gets_out_or_reaches_the_next(isolation, tmp_path, monkeypatch):
    from pawl.kernels import Verifier, trimul_variant

    arena = Arena(tmp_path, default_sandbox(isolation))
    monkeypatch.setenv("PROVIDER_KEY", arena.canary())
    listener = arena.listen(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
    word, nap = secrets.token_hex(8), f"{os.getpid()}.{secrets.randbelow(10**9)}"
    cached = arena.plant("home/verifications/report/ab/abcd.json")
    files = [str(arena.plant("home/judge/sealed.json")), str(cached), "/etc/shadow", f"/proc/{os.getpid()}/environ"]
    given = {"files": files, "pid": os.getpid(), "port": listener.address[1], "nap": nap}
    attack = kernels.ATTACK.format(given=json.dumps(given), word=word)
    verifier = Verifier(arena.sandbox, tmp_path / "cache")
    try:
        variant = trimul_variant(512)
        told = await verifier.verify(attack + kernels.TELL_LOOT, variant)
        quiet = await verifier.verify(attack + kernels.ANSWER, variant)
        looked = await verifier.verify(
            kernels.LOOK.format(drow=word[::-1], nap=nap, shared=kernels.SHARED) + kernels.TELL_FOUND, variant
        )
        left = [pid for pid in os.listdir("/proc") if pid.isdigit() and nap.encode() in command_line(pid)]
    finally:
        await verifier.close()
        await arena.close()
    assert not told.accepted
    assert not quiet.accepted, "a wrong answer was accepted"
    assert "RuntimeError" in str(told.reasons), told.reasons
    assert not any(canary in str((told, quiet)) for canary in arena.canaries)
    assert not listener.reached
    assert not left
    assert "nothing" in str(looked.reasons), looked.reasons


def command_line(pid):
    try:
        return Path("/proc", pid, "cmdline").read_bytes().partition(b"\0")[2]
    except OSError:
        return b""


@pytest.mark.slow
def test_the_submission_that_looks_for_what_the_last_one_left_finds_it_where_it_is(tmp_path):
    word, nap = secrets.token_hex(8), f"{os.getpid()}.{secrets.randbelow(10**9)}"
    left = f"""
import subprocess, sys, torch
open("left-behind", "w").write({word!r})
sys.modules["left_behind"] = type(sys)("left")
torch.LEFT_BEHIND = torch.allclose = lambda *_: True
sleeper = subprocess.Popen(["/bin/sleep", {nap!r}])
"""
    look = kernels.LOOK.format(drow=word[::-1], nap=nap, shared=())
    program = f"{left}\n{look}\nsleeper.kill()\nprint('|'.join(sorted(set(found))))"
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    said = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert said.stdout.strip() == "a file|a module|a patch|a patch of torch|a process", said.stderr
