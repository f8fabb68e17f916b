"""A short tour: a campaign waits at the gate, is killed, resumed, approved, and rolled back, each by its own process.

    python examples/tour.py --home .pawl-demo

It drives the `pawl` command as a person would, on the small task `labels`, and prints every step.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PAWL = [sys.executable, "-m", "pawl.cli.main"]
CAMPAIGN = "tour"


def say(text: str) -> None:
    """Print a line of the guide's."""
    print(f"\n# {text}", flush=True)


def pawl(home: Path, *words: str, quiet: bool = False) -> str:
    """Run one command to its end, showing it."""
    print(f"$ pawl {' '.join(words)}", flush=True)
    done = subprocess.run([*PAWL, *words, "--home", str(home)], capture_output=True, text=True, check=False)
    if not quiet:
        print("".join(f"  {line}\n" for line in done.stdout.splitlines()), end="", flush=True)
    if done.returncode != 0:
        sys.exit(f"pawl {words[0]} exited with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def background(home: Path, *words: str) -> "subprocess.Popen[str]":
    """Start a command that goes on while others run."""
    print(f"$ pawl {' '.join(words)} &", flush=True)
    return subprocess.Popen(
        [*PAWL, *words, "--home", str(home)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def request_at_the_gate(home: Path, worker: "subprocess.Popen[str]") -> str:
    """Wait until the campaign asks, and return the request's id."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        done = subprocess.run(
            [*PAWL, "pending", "--json", "--home", str(home)], capture_output=True, text=True, check=False
        )
        waiting = [each for each in json.loads(done.stdout or "[]") if each["campaign"] == CAMPAIGN]
        if waiting:
            return str(waiting[0]["id"])[:8]
        if worker.poll() is not None:
            sys.exit(f"The campaign ended without a request:\n{worker.stdout.read() if worker.stdout else ''}")
        time.sleep(0.5)
    sys.exit("The campaign did not reach the gate within five minutes.")


def main() -> None:
    """Walk through it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=Path(".pawl"))
    home = parser.parse_args().home

    say("One process starts a campaign of one round, and waits at the gate.")
    seeds = ("--seed", "7", "--sealed-seed", "7")
    first = background(home, "run", "labels", "--rounds", "1", "--campaign", CAMPAIGN, *seeds, "--wait")
    request = request_at_the_gate(home, first)
    pawl(home, "pending")

    say(f"Process {first.pid} is killed with SIGKILL while it waits.")
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    pawl(home, "status", CAMPAIGN)

    say("A second process resumes the campaign; nothing was lost, and it waits where the first one did.")
    second = background(home, "resume", CAMPAIGN, "--wait")

    say("A third process approves.")
    pawl(home, "approve", CAMPAIGN, request, "--as", "ada", "--reason", "the races look right")
    out, _ = second.communicate(timeout=300)
    print("".join(f"  {line}\n" for line in out.splitlines()), end="")
    if second.returncode != 0:
        sys.exit("The second process failed.")

    say("The approved version is live. It can be undone in a moment.")
    start = time.perf_counter()
    pawl(home, "rollback", "labels/live", "--as", "ada", "--reason", "to show that it can")
    print(f"  in {time.perf_counter() - start:.1f} s, most of it the start of the command")
    pawl(home, "history", CAMPAIGN)

    say("What to type next:")
    for line in (
        f"pawl status trimul-1 --home {home}              # the rounds",
        f"pawl cost trimul-1 --home {home}                # what they cost, by node, lever, model and round",
        f"pawl report trimul-1 --html report.html --home {home}   # all of it on one page",
        f"pawl run trimul --approve ask --home {home}     # another campaign; you approve by hand",
        f"pawl pending --home {home}                      # what waits for you",
        f"pawl rollback trimul/live --home {home}         # undo the last promotion",
    ):
        print(f"  {line}")


if __name__ == "__main__":
    main()
