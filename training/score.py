# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""`python -m pawl.training.score RUN_DIR`: what the trainer says of one sequence, for comparison with a server.

Writes `scores.json` (`TrainerScores`) and `adapter/`, a LoRA of the job's shape whose random weights change the
log-probabilities by about half a nat: by so little that rounding stays rounding, and by so much that a server which
ignores it, or reads it wrongly, is found out.
"""

import sys
from pathlib import Path

from ..core import ConfigurationError, PawlError, canonical_json
from .datums import Datum
from .rundir import RunDir
from .scoring import ADAPTER, SCORES, TrainerScores

TEXT = """The tide left 3 boats on the sand, and nobody came for them until the evening of 14 March.
def area(width: float, height: float) -> float:
    return width * height  # in square metres
"Why not?" she asked. He counted: one, two, four; then he laughed, because he'd forgotten three.
Item 7: choose one of A, B, C or D. Answer: B
"""
SEED = 5
EFFECT = (0.3, 1.0)
"""Mean absolute change of a log-probability that the adapter is to make, in nats."""
_FIRST_SPREAD = 1e-3
_TRIES = 24


def score(run: RunDir) -> TrainerScores:
    """Score the sequence as a training job would, without an adapter and with a random one, which is saved.

    Raises:
        ConfigurationError: the job's base can't be loaded, or no weights change it by as much as is needed.
    """
    import torch
    from transformers import AutoTokenizer

    from .adapter import save_adapter
    from .learner import Learner
    from .trees import pack

    job = run.job()
    tokenizer = AutoTokenizer.from_pretrained(job.base_model_dir, local_files_only=True)
    tokens: list[int] = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    learner = Learner(job)
    nothing = [0.0] * len(tokens)
    datum = Datum(
        tokens=tokens,
        mask=[0] + [1] * (len(tokens) - 1),
        behaviour_logprobs=nothing,
        advantages=nothing,
        allowed=[None] * len(tokens),
        policy_version="parity",
        group_id="parity",
    )
    [packed] = pack([datum], len(tokens))
    trunk = learner.trunk(packed)
    base = learner.base_logprobs(packed, trunk)
    generator = torch.Generator().manual_seed(SEED)
    draws = {
        name: torch.randn(value.shape, generator=generator)
        for name, value in learner.masters.items()
        if "lora_B" in name
    }
    low, high, spread = 0.0, None, _FIRST_SPREAD
    for _ in range(_TRIES):
        with torch.no_grad():
            for name, draw in draws.items():
                learner.masters[name].copy_(spread * draw)
        learner.publish()
        with torch.no_grad():
            adapted = learner.decide(packed, trunk).logprobs
        effect = float((adapted - base).abs().mean())
        if EFFECT[0] <= effect <= EFFECT[1]:
            save_adapter(run.path / ADAPTER, learner.spec, learner.state())
            return TrainerScores(tokens=tokens, base=base.tolist(), adapter=adapted.tolist())
        low, high = (spread, high) if effect < EFFECT[0] else (low, spread)
        spread = 2 * spread if high is None else (low + high) / 2
    raise ConfigurationError("No random adapter of this shape changes the model's log-probabilities by half a nat.")


def main(arguments: list[str]) -> int:
    """Score and write; 0 where it was done, 2 where the job was refused."""
    if len(arguments) != 1:
        print("usage: python -m pawl.training.score RUN_DIR (a folder with job.json)", file=sys.stderr)
        return 2
    run = RunDir(Path(arguments[0]))
    try:
        (run.path / SCORES).write_bytes(canonical_json(score(run)))
    except PawlError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
