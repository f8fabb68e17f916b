# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Choosing among labels against sampling the same answers with transformers' `generate`.

    python -P bench/policy.py [--threads 2]

Both answer the same 32 prompts (one head, the tails of 8 items) with answers of the same length, in the same process
on the same float32 weights. Labels have one token each, and three each where only the first decides. The engine
starts with an empty cache every time ("cold"); "warm" is the next field of the same rollouts.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM

from pawl.core import Settings
from pawl.serving.engine import Engine
from pawl.serving.sampling import Request
from pawl.serving.weights import base_model

BATCH, LABELS, GOAL = 32, 8, 5.0
HEAD = "Choose the schedule of a Triton kernel for the outgoing triangle update, field by field. " * 5
NAMES = ("A", "B", "C", "D", "E", "F", "G", "H")


def main() -> None:
    """Print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    files = base_model(Settings())
    engine = Engine.load(files.path)
    model: Any = AutoModelForCausalLM.from_pretrained(files.path, dtype=torch.float32).eval()

    texts = [HEAD + f"Item {i % 8}: batch {i % 8 + 1}, length {64 << (i % 8)}, masked. Tile:" for i in range(BATCH)]
    prompts = [engine.encode(text) for text in texts]
    figures: dict[str, float] = {}
    table = Table("answer", "engine, cold (s)", "engine, warm (s)", "generate (s)", "cold is faster by", "warm by")
    for length in (1, 3):
        labels = [engine.encode(f" {name}" + " end" * (length - 1)) for name in NAMES[:LABELS]]
        assert all(len(label) == length for label in labels)
        requests = [Request(p, choices=tuple(labels), seed=i, max_tokens=8) for i, p in enumerate(prompts)]

        def cold(requests: list[Request] = requests) -> None:
            engine.clear_cache()
            engine.run(requests)

        answers = engine.run(requests)  # also warms up
        followed = zip(requests, answers, strict=True)
        second = [Request((*r.prompt, *a.token_ids, 30, 198, 504), choices=r.choices, seed=1) for r, a in followed]

        def warm(requests: list[Request] = requests, second: list[Request] = second) -> float:
            engine.clear_cache()
            engine.run(requests)
            began = time.perf_counter()
            engine.run(second)
            return time.perf_counter() - began

        def generate(length: int = length) -> None:
            sample(model, prompts, length)

        times = {"cold": timed(cold, options.repeats), "generate": timed(generate, 1)}
        times["warm"] = statistics.median(warm() for _ in range(options.repeats))
        for name, seconds in times.items():
            figures[f"{name}_{length}_seconds"] = round(seconds, 4)
        figures[f"speedup_{length}"] = round(times["generate"] / times["cold"], 2)
        figures[f"speedup_warm_{length}"] = round(times["generate"] / times["warm"], 2)
        row = [f"{times[name]:.3f}" for name in ("cold", "warm", "generate")]
        gains = [f"{figures[f'speedup_{length}']:.1f} x", f"{figures[f'speedup_warm_{length}']:.1f} x"]
        table.add_row(f"{length} token{'s' if length > 1 else ''}", *row, *gains)
    Console().print(table)
    holds = all(figures[f"speedup_{length}"] >= GOAL for length in (1, 3))
    goals = {"speedup_1": GOAL, "speedup_3": GOAL}
    print(json.dumps({"bench": "policy", "figures": figures, "goals": goals, "holds": holds}))


@torch.inference_mode()
def sample(model: Any, prompts: list[tuple[int, ...]], length: int) -> torch.Tensor:
    """Sample `length` tokens after each prompt, as one left-padded batch."""
    width = max(map(len, prompts))
    ids = torch.tensor([[2] * (width - len(p)) + list(p) for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    return model.generate(
        input_ids=ids,
        attention_mask=mask,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        min_new_tokens=length,
        max_new_tokens=length,
        pad_token_id=2,
    )


def timed(work: Callable[[], None], repeats: int) -> float:
    """Median seconds."""
    seconds: list[float] = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
