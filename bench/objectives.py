# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""What each objective learns: SmolLM2-135M chooses one of eight labels, under three kinds of reward.

    python -P bench/objectives.py [--iterations 8] [--seeds 3]

A bandit. A label is three choices between two words each, one label is right, and it is asked for in four contexts. In
an iteration the policy draws eight labels a context, one job trains on those 32 rollouts, and the next begins from its
adapter. Nothing but the objective differs between runs; what a policy is worth is computed exactly from its
probabilities.

    sparse   1 for the right label, else 0; for group_relative, entropic and best_of_n
    dense    a third for each right word, as it is chosen; for ppo and reinforce
    ranked   numbers of which only the order within a context means anything; for preference

A policy's worth is the expected share of the best reward: of right labels (sparse), of right words (dense), of the
scale from the worst label to the best (ranked). The area under its curve is the mean over the iterations. The selector
is asked once a run, with the first iteration's rollouts; it gets the area of the objective that it chose.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from itertools import product
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from pawl.core import Grade, ModelCall, RolloutStop, Trajectory, derive_seed
from pawl.training import Objective

if TYPE_CHECKING:
    from pawl.serving.engine import Engine
    from pawl.training import RunDir, TrainJob

GOALS = {"least_share_of_best": 0.9, "least_selector_share": 0.9, "minutes": 30.0}
CONTEXTS = ("north", "east", "south", "west")
WORDS = ((" red", " blue"), (" cat", " dog"), (" up", " down"))
ATTEMPTS = 8
RATE = 5e-4
LABELS = tuple(product((0, 1), repeat=len(WORDS)))


class Setting(StrEnum):
    """What the policy is told of its answers."""

    SPARSE = "sparse"
    DENSE = "dense"
    RANKED = "ranked"


MEANT_FOR = {
    Objective.GROUP_RELATIVE: Setting.SPARSE,
    Objective.ENTROPIC: Setting.SPARSE,
    Objective.BEST_OF_N: Setting.SPARSE,
    Objective.PPO: Setting.DENSE,
    Objective.REINFORCE: Setting.DENSE,
    Objective.PREFERENCE: Setting.RANKED,
}


def right_label(seed: int) -> tuple[int, ...]:
    """The label that is right, in every context."""
    return Random(derive_seed(seed, "right")).choice(LABELS)


def worth(setting: Setting, label: tuple[int, ...], right: tuple[int, ...]) -> float:
    """What a label is worth, 0 to 1."""
    hits = [int(chosen == wanted) for chosen, wanted in zip(label, right, strict=True)]
    if setting is Setting.SPARSE:
        return float(all(hits))
    if setting is Setting.DENSE:
        return sum(hits) / len(hits)
    return (4 * hits[0] + 2 * hits[1] + hits[2]) / 7


class Bandit:
    """One setting and seed, played by one policy."""

    def __init__(self, engine: "Engine", setting: Setting, seed: int) -> None:
        self.engine, self.setting, self.seed = engine, setting, seed
        self.right = right_label(seed)
        self.prompts = [engine.encode(f"The gate in the {name} opens for the sign:") for name in CONTEXTS]
        self.words = [tuple(engine.encode(word) for word in pair) for pair in WORDS]
        assert all(len(word) == 1 for pair in self.words for word in pair)

    def value(self, adapter: str | None) -> float:
        """Expected worth, exactly."""
        from pawl.serving.sampling import Request

        ways = [way for depth in range(len(WORDS)) for way in product((0, 1), repeat=depth)]
        asked = [
            Request(
                (*prompt, *(self.words[place][word][0] for place, word in enumerate(way))),
                adapter=adapter,
                choices=self.words[len(way)],
                max_tokens=1,
                alternatives=2,
            )
            for prompt in self.prompts
            for way in ways
        ]
        answers = iter(self.engine.run(asked))
        total = 0.0
        for _ in self.prompts:
            chance = {(): 1.0}
            for way in ways:
                told = dict(next(answers).alternatives[0])
                for word, (token,) in enumerate(self.words[len(way)]):
                    chance[(*way, word)] = chance[way] * 2.718281828459045 ** told[token]
            total += sum(chance[label] * worth(self.setting, label, self.right) for label in LABELS)
        return total / len(CONTEXTS)

    def rollouts(self, adapter: str | None, iteration: int) -> list[Trajectory]:
        """Eight graded rollouts a context."""
        from pawl.serving.sampling import Request

        names = [f"{self.setting}-{self.seed}-{iteration}-{n}" for n in range(len(CONTEXTS) * ATTEMPTS)]
        prompts = [self.prompts[n // ATTEMPTS] for n in range(len(names))]
        steps: list[list[ModelCall]] = [[] for _ in names]
        for place, pair in enumerate(self.words):
            asked = [
                Request(p, adapter=adapter, choices=pair, max_tokens=1, seed=derive_seed(self.seed, name, place))
                for p, name in zip(prompts, names, strict=True)
            ]
            for n, answer in enumerate(self.engine.run(asked)):
                steps[n].append(
                    ModelCall(
                        model=adapter or "base",
                        prompt="",
                        completion=answer.text,
                        prompt_token_ids=list(prompts[n]),
                        token_ids=list(answer.token_ids),
                        logprobs=list(answer.logprobs),
                        choices=list(WORDS[place]),
                        choice_token_ids=[list(word) for word in pair],
                    )
                )
                prompts[n] = (*prompts[n], answer.token_ids[0])
        found: list[Trajectory] = []
        for n, calls in enumerate(steps):
            context = n // ATTEMPTS
            label = tuple(pair.index((call.token_ids[0],)) for pair, call in zip(self.words, calls, strict=True))
            found.append(
                Trajectory(
                    version=adapter or "base",
                    item=CONTEXTS[context],
                    seed=derive_seed(self.seed, names[n]),
                    steps=list(calls),
                    stop=RolloutStop.ANSWERED,
                    grade=self._grade(label, context, iteration),
                )
            )
        return found

    def _grade(self, label: tuple[int, ...], context: int, iteration: int) -> Grade:
        value, right = worth(self.setting, label, self.right), self.right
        if self.setting is Setting.DENSE:
            hits = [float(a == b) / len(right) for a, b in zip(label, right, strict=True)]
            return Grade(value=sum(hits), valid=True, details={"step_rewards": list(hits)})
        if self.setting is Setting.RANKED:  # any rising curve: another for each context and iteration
            bend = Random(derive_seed(self.seed, "bend", context, iteration)).uniform(-12, 12) or 1.0
            return Grade(value=(2.718281828459045 ** (bend * value) - 1) / bend, valid=True)
        return Grade(value=value, valid=True)


def play(
    engine: "Engine", base: Any, objective: Objective, bandit: Bandit, iterations: int, rate: float, folder: Path
) -> Any:
    """One run: the curve of worth, and what it took."""
    from pawl.training import Preference, RunDir, adapter_files, write_datums
    from pawl.training.dataset import make_dataset
    from pawl.training.job import TrainJob
    from pawl.training.selector import observe, select, settings
    from pawl.training.signals import Attempt

    name: str | None = None
    curve, chosen = [bandit.value(None)], ""
    steps = tokens = 0
    left = Counter[str]()
    previous: RunDir | None = None
    start = time.perf_counter()
    for iteration in range(iterations):
        trajectories = bandit.rollouts(name, iteration)
        signals = observe(
            [
                Attempt(
                    group=each.item,
                    reward=each.grade.value,
                    steps=len(each.steps),
                    step_rewards=each.grade.details.get("step_rewards", ()),
                )
                for each in trajectories
                if each.grade is not None
            ],
            floor=0.0 if bandit.setting is Setting.SPARSE else None,
            ordinal=bandit.setting is Setting.RANKED,
        )
        if iteration == 0:
            picked = select(signals).objective
            chosen = "" if picked is None else picked.kind.value
        parameters = settings(objective, signals)
        if isinstance(parameters, Preference):
            parameters = parameters.model_copy(update={"pairs": 4})
        dataset = make_dataset(trajectories, parameters, float)
        left.update({rule.value: count for rule, count in dataset.dropped.items()})
        if dataset.datums:
            job = TrainJob.model_validate(
                {
                    "id": f"{objective}-{bandit.setting}-{bandit.seed}-{iteration}",
                    "objective": parameters,
                    "base_model_dir": base["path"],
                    "base_model_name": base["name"],
                    "init_adapter": previous.adapter if previous else None,
                    "init_critic": previous.critic if previous and objective is Objective.PPO else None,
                    "learning_rate": rate,
                    "threads": 1,
                    "checkpoint_every": 1000,
                    "seed": derive_seed(bandit.seed, "job", iteration),
                }
            )
            run = RunDir(folder / job.id)
            write_datums(run.rollouts / "datums.jsonl", dataset.datums)
            (run.path / "job.json").write_text(job.model_dump_json())
            status = trained(run, job)
            assert adapter_files(status)
            steps += status.usage.training_steps
            tokens += sum(len(datum.tokens) for datum in dataset.datums) * job.epochs
            if name is not None:
                engine.unload_adapter(name)
            name, previous = job.id, run
            engine.load_adapter(name, run.adapter)
        curve.append(bandit.value(name))
    if name is not None:
        engine.unload_adapter(name)
    return {
        "objective": objective.value,
        "setting": bandit.setting.value,
        "seed": bandit.seed,
        "curve": curve,
        "selected": chosen,
        "steps": steps,
        "tokens": tokens,
        "left_out": dict(left),
        "seconds": time.perf_counter() - start,
    }


def trained(run: "RunDir", job: "TrainJob") -> Any:
    """Train in this process, as `python -m pawl.training` would."""
    if job.objective.kind.supervised:
        from pawl.training.supervised.train import train
    else:
        from pawl.training.loop import train
    return train(run)


def child(objective: Objective, setting: Setting, seeds: int, iterations: int, rate: float) -> None:
    """Play one objective in one setting, every seed; a JSON line a run."""
    import torch

    from pawl.core import Settings
    from pawl.serving.engine import Engine
    from pawl.serving.weights import base_model

    torch.set_num_threads(1)
    files = base_model(Settings())
    engine = Engine.load(files.path)
    base = {"path": str(files.path), "name": files.name}
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as scratch:
            bandit = Bandit(engine, setting, seed)
            print(json.dumps(play(engine, base, objective, bandit, iterations, rate, Path(scratch))), flush=True)


def measure(seeds: int, iterations: int, rate: float, only: list[str]) -> list[dict[str, Any]]:
    """All runs, two processes at a time, the slowest objectives first."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    order = sorted(product(Objective, Setting), key=lambda pair: (not pair[0].supervised, *pair))
    order = [pair for pair in order if not only or pair[0] in only]
    found: list[dict[str, Any]] = []
    with Progress(console=Console(stderr=True)) as progress, ThreadPoolExecutor(2) as pool:
        bar = progress.add_task("runs", total=len(order) * seeds)

        def one(pair: tuple[Objective, Setting]) -> None:
            command = [sys.executable, "-P", __file__, "--child", *pair]
            command += ["--seeds", str(seeds), "--iterations", str(iterations), "--rate", str(rate)]
            with tempfile.TemporaryFile("w+") as errors:
                process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
                assert process.stdout is not None
                for line in process.stdout:
                    if line.startswith('{"objective"'):
                        found.append(json.loads(line))
                        progress.advance(bar)
                if process.wait():
                    errors.seek(0)
                    raise SystemExit(f"{' '.join(pair)} failed:\n{errors.read()[-3000:]}")

        for future in [pool.submit(one, pair) for pair in order]:
            future.result()
    return found


def area(run: dict[str, Any]) -> float:
    """Mean worth after each iteration."""
    return statistics.fmean(run["curve"][1:])


def main() -> None:
    """Measure, print the table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=RATE, help="learning rate of every job")
    parser.add_argument("--only", nargs="*", default=[], help="objectives to run; the goals then don't hold")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(Objective(given.child[0]), Setting(given.child[1]), given.seeds, given.iterations, given.rate)
        return
    start = time.perf_counter()
    runs = measure(given.seeds, given.iterations, given.rate, given.only)
    minutes = (time.perf_counter() - start) / 60
    table = Table(
        "setting", "objective", "worth before", "after", "area", "steps", "tokens", "s a run",
        title=f"Expected share of the best reward, mean of {given.seeds} seeds (worst in brackets)",
    )  # fmt: skip
    figures: dict[str, float] = {"minutes": minutes}
    shares: list[float] = []
    selector: list[float] = []
    for setting in Setting:
        areas: dict[Objective, dict[int, float]] = {}
        asked: dict[int, str] = {}
        for objective in Objective:
            mine = sorted((r for r in runs if (r["objective"], r["setting"]) == (objective, setting)), key=_seed)
            if not mine:
                continue
            areas[objective] = {run["seed"]: area(run) for run in mine}
            asked |= {run["seed"]: run["selected"] for run in mine}
            after = [run["curve"][-1] for run in mine]
            own = MEANT_FOR[objective] is setting
            if own:
                shares.append(statistics.fmean(after))
            figures[f"{setting}_{objective}_after"] = statistics.fmean(after)
            figures[f"{setting}_{objective}_area"] = statistics.fmean(areas[objective].values())
            table.add_row(
                setting,
                f"{objective} *" if own else objective,
                f"{statistics.fmean(run['curve'][0] for run in mine):.2f}",
                f"{statistics.fmean(after):.3f} ({min(after):.3f})",
                f"{figures[f'{setting}_{objective}_area']:.3f}",
                *(f"{statistics.fmean(run[name] for run in mine):.0f}" for name in ("steps", "tokens", "seconds")),
            )
        if len(areas) == len(Objective):
            best = max(statistics.fmean(each.values()) for each in areas.values())
            got = statistics.fmean(areas[Objective(choice)][seed] for seed, choice in asked.items())
            selector.append(got / best)
            figures[f"{setting}_selector_share"] = got / best
            names = ", ".join(f"{name} x{count}" for name, count in Counter(asked.values()).most_common())
            table.add_row(setting, f"selector: {names}", "", "", f"{got:.3f}", "", "", "", end_section=True)
    Console().print(table)
    print("* the setting that it is meant for")
    complete = len(shares) == len(Objective) and len(selector) == len(Setting)
    figures |= {"least_share_of_best": min(shares, default=0.0), "least_selector_share": min(selector, default=0.0)}
    holds = (
        complete
        and figures["least_share_of_best"] >= GOALS["least_share_of_best"]
        and figures["least_selector_share"] >= GOALS["least_selector_share"]
        and minutes <= GOALS["minutes"]
    )
    print(json.dumps({"bench": "objectives", "figures": figures, "goals": GOALS, "holds": holds}))


def _seed(run: dict[str, Any]) -> int:
    return run["seed"]


if __name__ == "__main__":
    main()
