"""The engine's promises: exact choices, answers that don't depend on the batch or the cache, adapters by name."""

import itertools
import math
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from pawl.core import ConfigurationError
from pawl.serving.engine import Engine
from pawl.serving.pages import PAGE, shared_prefixes
from pawl.serving.sampling import Answer, Request
from pawl.serving.weights import BaseModelFiles

from .model_fixtures import smollm2, tiny_adapters, tiny_model_dir

__all__ = ["smollm2", "tiny_adapters", "tiny_model_dir"]

torch.set_num_threads(1)  # the tiny model gains nothing from more


@pytest.fixture(scope="module")
def engine(tiny_model_dir: Path) -> Engine:
    return Engine.load(tiny_model_dir)


def drawn(answers: list[Answer]) -> list[tuple[list[int], list[float], str]]:
    return [(a.token_ids, a.logprobs, a.finish_reason) for a in answers]


def test_choices_have_the_distribution_that_enumeration_gives(tiny_model_dir: Path) -> None:
    """In float64, against transformers' own forward pass; one label is the beginning of two others."""
    engine = Engine.load(tiny_model_dir, dtype="float64")
    reference = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float64)
    prompt, end = (504, 3575, 282, 4649), 2
    labels = [(10,), (10, 20), (10, 20, 30), (10, 21), (11, 20), (12, 13, 14)]

    def continuations(prefix: tuple[int, ...]) -> dict[int, float]:
        following = {label[len(prefix)] for label in labels if label[: len(prefix)] == prefix and label != prefix}
        if prefix in labels and following:
            following.add(end)
        with torch.no_grad():
            logits = reference(torch.tensor([prompt + prefix])).logits[0, -1] / 0.7
        allowed = sorted(following)
        return dict(zip(allowed, logits[allowed].softmax(-1).tolist(), strict=True))

    expected: dict[tuple[int, ...], float] = {}
    for label in labels:
        mass = math.prod(continuations(label[:i])[label[i]] for i in range(len(label)))
        extends = any(other[: len(label)] == label and other != label for other in labels)
        expected[label] = mass * (continuations(label)[end] if extends else 1.0)
    assert math.isclose(sum(expected.values()), 1.0, rel_tol=1e-12)

    seeds = range(1500)
    requests = [Request(prompt, seed=s, temperature=0.7, choices=tuple(labels), max_tokens=8) for s in seeds]
    answers = engine.run(requests)
    counts: Counter[tuple[int, ...]] = Counter()
    for answer in answers:
        label = tuple(t for t in answer.token_ids if t != end)
        assert answer.finish_reason == "stop"
        assert math.exp(sum(answer.logprobs)) == pytest.approx(expected[label], rel=1e-9)
        counts[label] += 1
    for label, mass in expected.items():
        spread = 5 * math.sqrt(mass * (1 - mass) / len(seeds)) + 1e-3
        assert counts[label] / len(seeds) == pytest.approx(mass, abs=spread)


def workload(engine: Engine) -> list[Request]:
    """Prompts that share a head longer than a page, ragged tails, free text and choices mixed."""
    head = "Choose the schedule of a kernel, field by field. " * 6
    labels = tuple(engine.encode(f" {name}") for name in ("A", "B", "C", "splitting", "fused twice"))
    requests: list[Request] = []
    for i in range(10):
        prompt = engine.encode(head + f"Item {i % 5}: " + "very " * (7 * (i % 3)) + "large.")
        choices = labels if i % 2 else ()
        requests.append(
            Request(prompt, seed=i, choices=choices, max_tokens=4, temperature=0.9, top_p=1.0 - 0.1 * (i % 2))
        )
    return requests


def test_an_answer_does_not_depend_on_the_batch_the_order_or_the_cache(engine: Engine) -> None:
    requests = workload(engine)
    engine.clear_cache()
    cold = drawn(engine.run(requests))
    warm = drawn(engine.run(requests))
    assert warm == cold
    assert drawn(engine.run(requests[::-1]))[::-1] == cold
    alone = []
    for request in requests[:4]:
        engine.clear_cache()
        alone += drawn(engine.run([request]))
    assert alone == cold[:4]
    extended = [replace(r, prompt=r.prompt + tuple(a[0]), choices=()) for r, a in zip(requests, cold, strict=True)]
    continued = drawn(engine.run(extended))
    engine.clear_cache()
    assert drawn(engine.run(extended)) == continued


def test_a_full_cache_costs_time_and_changes_nothing(engine: Engine, tiny_model_dir: Path) -> None:
    small = Engine.load(tiny_model_dir, cache_tokens=16 * PAGE)
    requests = [replace(r, prompt=r.prompt[i:]) for i, r in enumerate(workload(engine))]  # nothing left to share
    for _ in range(2):
        assert drawn(small.run(requests)) == drawn(engine.run(requests))


def test_a_continued_sequence_computes_its_new_tokens_alone(engine: Engine) -> None:
    engine.clear_cache()
    prompt = engine.encode("One two three four five. " * 12)
    [first] = engine.run([Request(prompt, max_tokens=5, seed=1)])
    [second] = engine.run([Request((*prompt, *first.token_ids, 500), max_tokens=1)])
    assert first.cached_tokens == 0
    assert second.cached_tokens >= len(prompt) + len(first.token_ids) - 1


def test_scores_are_the_log_probabilities_that_were_drawn_from(engine: Engine) -> None:
    prompt = engine.encode("The capital of France is")
    [answer] = engine.run([Request(prompt, max_tokens=16, seed=3, ignore_eos=True)])
    scores = engine.score((*prompt, *answer.token_ids))
    assert scores[0] is None
    assert scores[len(prompt) :] == pytest.approx(answer.logprobs, abs=1e-5)


def test_greedy_takes_the_likeliest_and_reports_alternatives(engine: Engine) -> None:
    [answer] = engine.run([Request(engine.encode("a b c"), temperature=0.0, max_tokens=3, alternatives=4)])
    for token, logprob, likeliest in zip(answer.token_ids, answer.logprobs, answer.alternatives, strict=True):
        assert likeliest[0] == (token, logprob)
        assert len(likeliest) == 4
        assert [p for _, p in likeliest] == sorted((p for _, p in likeliest), reverse=True)


def test_top_p_keeps_the_nucleus_and_renormalises_it(engine: Engine) -> None:
    prompt, labels = engine.encode("Pick one:"), tuple((t,) for t in range(300, 308))
    [full] = engine.run([Request(prompt, choices=labels, alternatives=8)])
    masses = [(token, math.exp(p)) for token, p in full.alternatives[0]]
    before = list(itertools.accumulate([0.0, *[m for _, m in masses]]))[:-1]
    nucleus = {token: m for (token, m), b in zip(masses, before, strict=True) if b < 0.6}
    answers = engine.run([Request(prompt, choices=labels, top_p=0.6, seed=s) for s in range(64)])
    assert 1 < len(nucleus) < 8
    for answer in answers:
        assert math.exp(answer.logprobs[0]) == pytest.approx(nucleus[answer.token_ids[0]] / sum(nucleus.values()))


def test_stop_strings_and_the_end_of_text_end_an_answer(engine: Engine) -> None:
    prompt = engine.encode("Hello")
    [long] = engine.run([Request(prompt, max_tokens=24, seed=5, ignore_eos=True)])
    stop = engine.decode(long.token_ids[8:9])
    [short] = engine.run([Request(prompt, max_tokens=24, seed=5, ignore_eos=True, stop=(stop,))])
    assert short.finish_reason == "stop"
    assert short.token_ids == long.token_ids[: len(short.token_ids)]
    assert stop not in short.text
    [ended] = engine.run([Request(prompt, choices=((2,),), max_tokens=4)])
    assert (ended.token_ids, ended.text) == ([2], "")


def test_adapters_mix_in_one_batch_and_match_peft(
    engine: Engine, tiny_model_dir: Path, tiny_adapters: list[Path]
) -> None:
    from peft import PeftModel

    requests = workload(engine)
    base = drawn(engine.run(requests))
    for name, folder in zip(("one", "two"), tiny_adapters, strict=True):
        engine.load_adapter(name, folder)
        engine.load_adapter(name, folder)  # the same bytes again are fine
    assert drawn(engine.run(requests)) == base
    names = [None, "one", "two"]
    mixed = engine.run([replace(r, adapter=names[i % 3]) for i, r in enumerate(requests)])
    for i, request in enumerate(requests[:3]):
        assert drawn(engine.run([replace(request, adapter=names[i % 3])])) == drawn([mixed[i]])
    ones = drawn(engine.run([replace(r, adapter="one") for r in requests]))
    twos = drawn(engine.run([replace(r, adapter="two") for r in requests]))
    assert base != ones != twos != base

    tokens = requests[0].prompt
    reference = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model_dir), tiny_adapters[0])
    with torch.no_grad():
        likelihoods = reference(torch.tensor([tokens])).logits[0].log_softmax(-1)
    expected = likelihoods[:-1].gather(1, torch.tensor(tokens)[1:, None])[:, 0].tolist()
    assert engine.score(tokens, "one")[1:] == pytest.approx(expected, abs=1e-4)

    with pytest.raises(ConfigurationError, match="other bytes"):
        engine.load_adapter("one", tiny_adapters[1])
    assert engine.unload_adapter("one")
    assert not engine.unload_adapter("one")
    with pytest.raises(ConfigurationError, match="No adapter 'one'"):
        engine.run([replace(requests[0], adapter="one")])
    engine.load_adapter("one", tiny_adapters[1])  # the name is free, and no key of its old bytes is left
    assert drawn(engine.run([replace(r, adapter="one") for r in requests])) == twos
    for name in ("one", "two"):
        engine.unload_adapter(name)
    assert drawn(engine.run(requests)) == base


def test_an_adapter_that_cannot_be_served_is_refused(engine: Engine, tiny_adapters: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no adapter_config.json and no adapter_model.safetensors"):
        engine.load_adapter("empty", tmp_path)
    dora = shutil.copytree(tiny_adapters[0], tmp_path / "dora")
    config = (dora / "adapter_config.json").read_text()
    (dora / "adapter_config.json").write_text(config.replace('"use_dora": false', '"use_dora": true'))
    with pytest.raises(ConfigurationError, match="DoRA"):
        engine.load_adapter("dora", dora)
    wide = shutil.copytree(tiny_adapters[0], tmp_path / "wide")
    weights = load_file(wide / "adapter_model.safetensors")
    save_file({k: torch.cat([v, v], 0) for k, v in weights.items()}, wide / "adapter_model.safetensors")
    with pytest.raises(ConfigurationError, match="doesn't fit"):
        engine.load_adapter("wide", wide)
    assert engine.adapters == {}


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request(()), "empty"),
        (Request((1, 2), max_tokens=5000), "maximum context length"),
        (Request((1, 999_999)), "outside"),
        (Request((1,), adapter="none"), "No adapter"),
    ],
)
def test_a_request_that_cannot_be_answered_says_why(engine: Engine, request_: Request, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        engine.run([request_])


@settings(max_examples=60, deadline=None)
@given(st.sets(st.lists(st.integers(0, 1), min_size=1, max_size=5).map(tuple), min_size=1, max_size=12))
def test_every_page_that_prompts_share_is_staged_once_before_them(patterns: set[tuple[int, ...]]) -> None:
    prompts = [tuple(bit for bit in pattern for _ in range(PAGE - 3)) for pattern in sorted(patterns)]
    stages = shared_prefixes(prompts)
    pages = Counter(p[: n * PAGE] for p in prompts for n in range(1, len(p) // PAGE + 1))
    staged: set[tuple[int, ...]] = set()
    for stage in stages:
        assert len(set(stage)) == len(stage)
        for prefix in stage:
            assert len(prefix) % PAGE == 0
            staged |= {prefix[: n * PAGE] for n in range(1, len(prefix) // PAGE + 1)}
    assert staged == {page for page, count in pages.items() if count > 1}


@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=pytest.mark.slow)])  # two spin where others run
def test_the_real_model_answers_the_same_alone_and_in_a_batch(smollm2: BaseModelFiles, threads: int) -> None:
    torch.set_num_threads(threads)
    engine = Engine.load(smollm2.path)
    question = engine.encode(engine.chat([{"role": "user", "content": "What is the capital of France?"}]))
    greedy = Request(question, temperature=0.0, max_tokens=12)
    requests = [greedy, *[replace(r, max_tokens=2) for r in workload(engine)[:5]]]
    together = engine.run(requests)
    assert "Paris" in together[0].text
    engine.clear_cache()
    alone = [drawn(engine.run([r]))[0] for r in requests[::-1]][::-1]
    torch.set_num_threads(1)
    assert alone == drawn(together)
