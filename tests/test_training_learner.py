"""The learner: shared prefixes, a frozen trunk and a few vocabulary rows give what plain forwards give."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from pawl.core import ConfigurationError
from pawl.training import Datum, Modules
from pawl.training.adapter import save_adapter
from pawl.training.learner import Learner
from pawl.training.trees import Pack, pack

from .training_fixtures import make_datum, make_job, save_tiny, some_datums, torch_settings, trainee_dir

__all__ = ["torch_settings", "trainee_dir"]
pytestmark = pytest.mark.usefixtures("torch_settings")


def plainly(model: torch.nn.Module, datum: Datum) -> list[float]:
    """Log-probabilities of a datum's decisions by one full forward over its own tokens."""
    with torch.no_grad():
        logits = model(torch.tensor([datum.tokens])).logits[0].double()
    values: list[float] = []
    for index, chosen in enumerate(datum.mask):
        if chosen:
            row = logits[index - 1] / datum.temperature
            allowed = datum.allowed[index] or range(len(row))
            values.append(float(row[datum.tokens[index]] - row[list(allowed)].logsumexp(0)))
    return values


def by_pack(learner: Learner, packs: list[Pack]) -> Counter[tuple[int, float]]:
    """The decisions as (token, rounded log-probability), since packing orders them anew."""
    seen = Counter[tuple[int, float]]()
    for each in packs:
        decided = learner.decide(each, learner.trunk(each))
        for decision, value in zip(each.decisions, decided.logprobs.tolist(), strict=True):
            seen[decision.token, round(value, 3)] += 1
    return seen


def perturb(learner: Learner, seed: int = 1) -> None:
    """Give every master a value, so that the adapter acts."""
    generator = torch.Generator().manual_seed(seed)
    for master in learner.masters.values():
        master.copy_(torch.randn(master.shape, generator=generator) * 0.2)
    learner.publish()


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "qwen3"])
def test_packed_decisions_equal_plain_forwards(tmp_path: Path, model_type: str) -> None:
    base = save_tiny(tmp_path / model_type, model_type)
    learner = Learner(make_job(base))
    perturb(learner)
    warm = [
        make_datum([7, 8, 9, 30], [3], allowed=[30, 31], temperature=0.5),
        make_datum([7, 8, 41, 33], [2, 3], temperature=2.0),
    ]
    datums = [*some_datums(), *warm]
    expected = Counter(
        (token, round(value, 3))
        for datum in datums
        for token, value in zip(
            [token for token, chosen in zip(datum.tokens, datum.mask, strict=True) if chosen],
            plainly(learner.model, datum),
            strict=True,
        )
    )
    for size in (1, 16, 512):
        found = by_pack(learner, pack(datums, size))
        assert set(found) == set(expected)
        assert found == expected


def test_gradients_of_a_pack_equal_those_of_separate_sequences(trainee_dir: Path) -> None:
    learner = Learner(make_job(trainee_dir))
    perturb(learner)
    datums = some_datums()

    def gradients(packs: list[Pack]) -> dict[str, torch.Tensor]:
        for each in packs:
            values = learner.decide(each, learner.trunk(each)).logprobs
            advantages = torch.tensor([decision.advantage for decision in each.decisions])
            (values * advantages).sum().backward()
        learner.collect_gradients()
        return {name: master.grad.clone() for name, master in learner.masters.items() if master.grad is not None}

    together = gradients(pack(datums, 512))
    apart = gradients([each for datum in datums for each in pack([datum], 512)])
    assert set(together) == set(apart) == set(learner.masters)
    for name, value in together.items():
        assert torch.allclose(value, apart[name], rtol=1e-3, atol=1e-4 * float(value.abs().max())), name


def test_shared_prefixes_are_computed_once() -> None:
    datums = some_datums()
    [only] = pack(datums, 512)
    prefixes = {tuple(datum.tokens[:end]) for datum in datums for end in range(1, len(datum.tokens))}
    assert len(only.tokens) == len(prefixes) < sum(len(datum.tokens) for datum in datums) / 2
    assert sum(len(each.decisions) for each in pack(datums, 10)) == len(only.decisions) == 36
    assert pack(datums, 20) == pack(datums[::-1], 20)
    assert all(len(each.tokens) <= 20 for each in pack(datums, 20))


def test_a_saved_adapter_acts_the_same_in_peft(trainee_dir: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    learner = Learner(make_job(trainee_dir, modules=Modules.ATTENTION))
    perturb(learner)
    save_adapter(tmp_path / "adapter", learner.spec, learner.state())
    served = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(trainee_dir), tmp_path / "adapter").eval()
    bare = AutoModelForCausalLM.from_pretrained(trainee_dir).eval()
    datum = some_datums()[0]
    assert plainly(served, datum) == pytest.approx(plainly(learner.model, datum), abs=1e-4)
    assert plainly(bare, datum) != pytest.approx(plainly(served, datum), abs=1e-2)
    base = learner.base_logprobs(*(lambda each: (each, learner.trunk(each)))(pack([datum], 64)[0]))
    assert base.tolist() == pytest.approx(plainly(bare, datum), abs=1e-4)
    text = (tmp_path / "adapter" / "adapter_config.json").read_text()
    assert '"base_model_name_or_path":"tiny-llama"' in text
    assert str(tmp_path) not in text


def test_entropies_are_those_of_the_masked_distribution(trainee_dir: Path) -> None:
    learner = Learner(make_job(trainee_dir))
    datum = make_datum([7, 8, 30], [2], allowed=[30, 31, 32])
    [only] = pack([datum], 64)
    decided = learner.decide(only, learner.trunk(only))
    with torch.no_grad():
        row = learner.model(torch.tensor([[7, 8]])).logits[0, -1, [30, 31, 32]].double().softmax(0)
    assert float(decided.entropies[0]) == pytest.approx(float(-(row * row.log()).sum()), abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"base_model_name": "another"}, "for the base tiny-llama, the job for another"),
        ({"rank": 4}, "for rank 8, the job for 4"),
        ({"alpha": 8.0}, "for alpha 16.0, the job for 8.0"),
    ],
)
def test_an_adapter_of_another_kind_is_refused(
    trainee_dir: Path, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    learner = Learner(make_job(trainee_dir))
    save_adapter(tmp_path / "adapter", learner.spec, learner.state())
    Learner(make_job(trainee_dir, init_adapter=tmp_path / "adapter", layers=1))  # the adapter brings its own layers
    with pytest.raises(ConfigurationError, match=words):
        Learner(make_job(trainee_dir, init_adapter=tmp_path / "adapter", **changes))


def test_an_adapter_that_does_not_fit_is_refused(trainee_dir: Path, tmp_path: Path) -> None:
    learner = Learner(make_job(trainee_dir))
    weights = dict(learner.state())
    weights.pop(min(weights))
    save_adapter(tmp_path / "cut", learner.spec, weights)
    with pytest.raises(ConfigurationError, match="doesn't fit the base model"):
        Learner(make_job(trainee_dir, init_adapter=tmp_path / "cut"))
    (tmp_path / "cut" / "adapter_model.safetensors").write_bytes(b"garbage")
    with pytest.raises(ConfigurationError, match="can't be read"):
        Learner(make_job(trainee_dir, init_adapter=tmp_path / "cut"))


def test_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2)).save_pretrained(tmp_path / "gpt2")
    with pytest.raises(ConfigurationError, match="'gpt2'"):
        Learner(make_job(tmp_path / "gpt2"))
