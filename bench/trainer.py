# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportMissingParameterType=false, reportUnknownParameterType=false
# pyright: reportIncompatibleMethodOverride=false
"""The trainer against TRL's `GRPOTrainer`, on the same rollouts, made before: tokens a second, and peak memory.

    python -P bench/trainer.py [--threads 2] [--steps 2]

Both train the same new adapter (rank 32, every linear map) of SmolLM2-135M on the same 32 rollouts, four groups of
eight, 32 a step, each in a process of its own. *choices*: a prompt and ten decisions among four labels with given text
between them. *free text*: the same prompt and 64 tokens of the model's own. A rollout's tokens count whole, prompt
included, however often a trainer computes them. TRL takes the rollouts by an override of its generation, with the
behaviour's log-probabilities; given text is masked out by its `tool_mask`. It has no masked choice, so among the labels
it trains over the whole vocabulary, which takes it no longer than the alternative.

`all layers` is the like-for-like figure that the goal is held to; `last 10` is what campaigns use, for both. The first
step of each is left out.
"""

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Moment = tuple[float, float]
"""Wall clock and CPU time of the process, in seconds."""
GROUPS, ATTEMPTS, RANK, MICRO = 4, 8, 32, 8
GOALS = {"speed_up": 2.0, "memory_ratio": 1.0, "peak_gb": 3.0}
HEAD = "Choose the schedule of a Triton kernel for the outgoing triangle update, field by field. " * 8
LABELS = (" A", " B", " C", " D")


def sample(folder: Path, threads: int) -> None:
    """Make both sets of rollouts with the local engine, and write them as datums."""
    import torch

    from pawl.core import Settings
    from pawl.serving.engine import Engine
    from pawl.serving.sampling import Request
    from pawl.serving.weights import base_model
    from pawl.training import Datum, write_datums

    torch.set_num_threads(threads)
    files = base_model(Settings())
    engine = Engine.load(files.path)
    prompts = [engine.encode(f"{HEAD}Item {i}: batch {i + 1}, length {64 << i}.") for i in range(GROUPS)]
    labels = tuple(engine.encode(label) for label in LABELS)
    rewards = [0.1 * (k - (ATTEMPTS - 1) / 2) for k in range(ATTEMPTS)]

    def finished(tokens: list[int], mask: list[int], values: list[float], allowed: list[Any], number: int) -> Datum:
        advantage = rewards[number % ATTEMPTS]
        return Datum(
            tokens=tokens,
            mask=mask,
            behaviour_logprobs=values,
            advantages=[advantage * chosen for chosen in mask],
            allowed=allowed,
            policy_version="base",
            group_id=f"g{number // ATTEMPTS}",
        )

    among = sorted(label[0] for label in labels)
    lines = [list(prompts[n // ATTEMPTS]) for n in range(GROUPS * ATTEMPTS)]
    masks, values = [[0] * len(line) for line in lines], [[0.0] * len(line) for line in lines]
    sets: list[list[Any]] = [[None] * len(line) for line in lines]
    for field in range(10):
        between = engine.encode(f" Field {field}, of ten fields in all, is")
        for line, mask, value, allowed in zip(lines, masks, values, sets, strict=True):
            line += between
            mask += [0] * len(between)
            value += [0.0] * len(between)
            allowed += [None] * len(between)
        asked = [
            Request(tuple(line), choices=labels, seed=100 * field + n, max_tokens=1) for n, line in enumerate(lines)
        ]
        for n, answer in enumerate(engine.run(asked)):
            lines[n].append(answer.token_ids[0])
            masks[n].append(1)
            values[n].append(min(0.0, answer.logprobs[0]))
            sets[n].append(among)
    write_datums(
        folder / "choices.jsonl",
        [finished(*row, n) for n, row in enumerate(zip(lines, masks, values, sets, strict=True))],
    )
    free: list[Datum] = []
    asked = [
        Request(tuple(prompts[n // ATTEMPTS]), seed=n, max_tokens=64, ignore_eos=True) for n in range(GROUPS * ATTEMPTS)
    ]
    for n, answer in enumerate(engine.run(asked)):
        given = len(prompts[n // ATTEMPTS])
        made = len(answer.token_ids)
        free.append(
            finished(
                [*prompts[n // ATTEMPTS], *answer.token_ids],
                [0] * given + [1] * made,
                [0.0] * given + [min(0.0, value) for value in answer.logprobs],
                [None] * (given + made),
                n,
            )
        )
    write_datums(folder / "free.jsonl", free)
    (folder / "base.json").write_text(json.dumps({"path": str(files.path), "name": files.name}))


def own(folder: Path, data: str, layers: int, dtype: str, threads: int, steps: int) -> list[Moment]:
    """Moments after each step of Pawl's loop."""
    from pawl.training import Modules, Objective, RunDir, TrainJob
    from pawl.training.loop import train
    from pawl.training.rundir import RunDir as Run

    base = json.loads((folder / "base.json").read_text())
    job = TrainJob.model_validate(
        {
            "id": "bench",
            "objective": Objective.GROUP_RELATIVE,
            "base_model_dir": base["path"],
            "base_model_name": base["name"],
            "rank": RANK,
            "layers": layers,
            "modules": Modules.ALL,
            "epochs": steps + 1,
            "minibatch": GROUPS * ATTEMPTS,
            "precision": dtype,
            "threads": threads,
            "checkpoint_every": 1000,
        }
    )
    moments: list[Moment] = []
    written = Run.append_metrics

    def note(self: RunDir, step: int, metrics: dict[str, float]) -> None:
        written(self, step, metrics)
        moments.append((time.perf_counter(), time.process_time()))

    Run.append_metrics = note  # pyright: ignore[reportAttributeAccessIssue]
    with tempfile.TemporaryDirectory() as scratch:
        run = RunDir(Path(scratch))
        run.rollouts.mkdir()
        (run.rollouts / "datums.jsonl").write_bytes((folder / f"{data}.jsonl").read_bytes())
        (run.path / "job.json").write_text(job.model_dump_json())
        train(run)
    return moments


def trl(folder: Path, data: str, layers: int, dtype: str, threads: int, steps: int) -> list[Moment]:
    """Moments after each step of `GRPOTrainer` that is given the rollouts."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from torch import Tensor
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer  # pyright: ignore[reportPrivateImportUsage]

    from pawl.training import read_datums
    from pawl.training.learner import ATTENTION, MLP

    torch.set_num_threads(threads)
    base = json.loads((folder / "base.json").read_text())
    rows = list(read_datums(folder / f"{data}.jsonl"))
    half = dtype == "bfloat16"
    model: Any = AutoModelForCausalLM.from_pretrained(base["path"], dtype=torch.bfloat16 if half else torch.float32)
    count = model.config.num_hidden_layers
    moments: list[Moment] = []
    seen: list[int] = []

    class Given(GRPOTrainer):
        """Takes the rollouts as they are; nothing is generated."""

        def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
            chosen = [rows[each["row"]] for each in inputs]
            starts = [row.mask.index(1) for row in chosen]
            left, right = max(starts), max(len(row.tokens) - at for row, at in zip(chosen, starts, strict=True))
            out = {
                "prompt_ids": torch.zeros(len(chosen), left, dtype=torch.long),
                "prompt_mask": torch.zeros(len(chosen), left, dtype=torch.long),
                "completion_ids": torch.zeros(len(chosen), right, dtype=torch.long),
                "completion_mask": torch.zeros(len(chosen), right, dtype=torch.long),
                "tool_mask": torch.zeros(len(chosen), right, dtype=torch.long),
                "old_per_token_logps": torch.zeros(len(chosen), right),
                "advantages": torch.tensor([max(row.advantages, key=abs) for row in chosen]),
            }
            for line, (row, at) in enumerate(zip(chosen, starts, strict=True)):
                size = len(row.tokens) - at
                out["prompt_ids"][line, left - at :] = torch.tensor(row.tokens[:at])
                out["prompt_mask"][line, left - at :] = 1
                out["completion_ids"][line, :size] = torch.tensor(row.tokens[at:])
                out["completion_mask"][line, :size] = 1
                out["tool_mask"][line, :size] = torch.tensor(row.mask[at:])
                out["old_per_token_logps"][line, :size] = torch.tensor(row.behaviour_logprobs[at:])
            out["num_items_in_batch"] = out["tool_mask"].sum()
            return out

        def _get_train_sampler(self, dataset: Any = None) -> Any:
            """In order: TRL reads a step's rows anew for each micro-batch, and takes its slice of them."""
            return torch.utils.data.SequentialSampler(range(len(rows) * (len(rows) // MICRO)))

        def _compute_loss(self, model: Any, inputs: dict[str, Tensor]) -> Any:
            seen.append(len(inputs["advantages"]))
            return super()._compute_loss(model, inputs)

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            moments.append((time.perf_counter(), time.process_time()))

    with tempfile.TemporaryDirectory() as scratch:
        settings = GRPOConfig(
            output_dir=scratch,
            use_cpu=True,
            bf16=half,
            fp16=False,
            gradient_checkpointing=False,
            dataloader_pin_memory=False,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            loss_type="dapo",
            learning_rate=2e-3,
            epsilon=0.3,
            per_device_train_batch_size=MICRO,
            gradient_accumulation_steps=len(rows) // MICRO,
            num_generations=ATTEMPTS,
            max_steps=steps + 1,
        )
        trainer = Given(
            model=model,
            args=settings,
            reward_funcs=lambda completions, **_: [0.0] * len(completions),
            train_dataset=Dataset.from_list(
                [{"prompt": "", "row": n} for n in range(len(rows))] * (len(rows) // MICRO)
            ),
            processing_class=AutoTokenizer.from_pretrained(base["path"]),
            peft_config=LoraConfig(
                task_type="CAUSAL_LM",
                r=RANK,
                lora_alpha=32,
                lora_dropout=0.0,
                target_modules=list(ATTENTION + MLP),
                layers_to_transform=list(range(count - min(layers, count), count)),
                layers_pattern="layers",
            ),
            callbacks=[Clock()],
        )
        trainer.train()
    assert sum(seen) == len(rows) * (steps + 1), f"{sum(seen)} rollouts in {steps + 1} steps of {len(rows)}"
    return moments


def child(command: list[str], threads: int) -> dict[str, Any]:
    """Run this file for one measurement in a process of its own."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "TRL_EXPERIMENTAL_SILENCE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-P", __file__, "--threads", str(threads), *command],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1]) if "--sample" not in command else {}


def measure(folder: Path, threads: int, steps: int) -> tuple[dict[str, float], Table]:
    """All figures, and the table."""
    from pawl.training import read_datums

    console = Console(stderr=True)
    console.print("Sampling the rollouts")
    child(["--sample", "--folder", str(folder)], threads)
    counts = {
        data: sum(len(row.tokens) for row in read_datums(folder / f"{data}.jsonl")) for data in ("choices", "free")
    }
    table = Table(
        "rollouts",
        "layers",
        "arithmetic",
        "tokens/s",
        "TRL tokens/s",
        "faster by",
        "by CPU time",
        "peak GB",
        "TRL peak GB",
    )
    figures: dict[str, float] = {}
    for data in ("choices", "free"):
        for layers, name in ((1000, "all"), (10, "last10")):
            for dtype, short in (("float32", "fp32"), ("bfloat16", "bf16")):
                if name == "last10" and short == "bf16":
                    continue
                found: dict[str, dict[str, Any]] = {}
                for who in ("own", "trl"):
                    console.print(f"{who}: {data}, {name} layers, {short}")
                    order = ["--child", who, "--folder", str(folder), "--data", data, "--layers", str(layers)]
                    found[who] = child([*order, "--dtype", dtype, "--steps", str(steps)], threads)
                speed = {who: counts[data] / statistics.median(found[who]["seconds"]) for who in found}
                key = f"{data}_{name}_{short}"
                figures |= {
                    f"{key}_tokens_per_s": speed["own"],
                    f"{key}_trl_tokens_per_s": speed["trl"],
                    f"{key}_speed_up": speed["own"] / speed["trl"],
                    f"{key}_cpu_ratio": statistics.median(found["trl"]["cpu"]) / statistics.median(found["own"]["cpu"]),
                    f"{key}_memory_ratio": found["own"]["peak_gb"] / found["trl"]["peak_gb"],
                    f"{key}_peak_gb": found["own"]["peak_gb"],
                }
                cells = (
                    f"{speed['own']:.0f}",
                    f"{speed['trl']:.0f}",
                    f"{speed['own'] / speed['trl']:.1f}",
                    f"{figures[f'{key}_cpu_ratio']:.1f}",
                )
                peaks = (f"{found[who]['peak_gb']:.2f}" for who in ("own", "trl"))
                table.add_row(data, name, short, *cells, *peaks)
    for data in counts:
        figures[f"{data}_bf16_gain"] = (
            figures[f"{data}_all_bf16_tokens_per_s"] / figures[f"{data}_all_fp32_tokens_per_s"]
        )
    return figures, table


def main() -> None:
    """Measure, print the table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--sample", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--child", choices=("own", "trl"), help=argparse.SUPPRESS)
    parser.add_argument("--data", help=argparse.SUPPRESS)
    parser.add_argument("--layers", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--dtype", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.sample:
        sample(given.folder, given.threads)
        return
    if given.child:
        run = own if given.child == "own" else trl
        moments = run(given.folder, given.data, given.layers, given.dtype, given.threads, given.steps)
        pairs = list(itertools.pairwise(moments))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        took = {"seconds": [b[0] - a[0] for a, b in pairs], "cpu": [b[1] - a[1] for a, b in pairs]}
        print(json.dumps({**took, "peak_gb": peak}))
        return
    with tempfile.TemporaryDirectory() as scratch:
        figures, table = measure(Path(scratch), given.threads, given.steps)
    Console().print(table)
    kinds = [f"{data}_all_{short}" for data in ("choices", "free") for short in ("fp32", "bf16")]
    worst = {
        "speed_up": min(figures[f"{kind}_speed_up"] for kind in kinds),
        "memory_ratio": max(figures[f"{kind}_memory_ratio"] for kind in kinds),
        "peak_gb": max(value for name, value in figures.items() if name.endswith("_peak_gb")),
    }
    holds = (
        worst["speed_up"] >= GOALS["speed_up"]
        and worst["memory_ratio"] <= GOALS["memory_ratio"]
        and worst["peak_gb"] <= GOALS["peak_gb"]
    )
    print(json.dumps({"bench": "trainer", "figures": {**figures, **worst}, "goals": GOALS, "holds": holds}))


if __name__ == "__main__":
    main()
