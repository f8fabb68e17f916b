# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""The engine of the local model server: a causal language model on the CPU, with LoRA adapters by name.

    engine = Engine.load(files.path)
    [answer] = engine.run([Request(prompt=engine.encode("The capital of France is"), max_tokens=4)])

An answer depends on its request, the weights and the machine alone: not on what else is in the batch, nor on what
the prefix cache holds (see attention.py). Not safe to share between threads.
"""

import random
import warnings
from collections.abc import Sequence as Sequences
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ..core import ConfigurationError
from ..core.digest import digest_tree
from .attention import NAME, TOKENS, pack
from .pages import PAGE, OutOfPages, Pages, Sequence, shared_prefixes
from .sampling import Answer, Distribution, Request, Trie

PASS_TOKENS = 1024
"""New tokens of one forward pass; bounds its memory."""
ROW_TOKENS = 512
"""New tokens of one sequence in one pass."""
PARITY = 1e-2
"""Largest difference of a log-probability from the model's own forward pass (nats; a hundredfold in bfloat16)."""


@dataclass
class _Row:
    """One request while it is drawn."""

    request: Request
    answer: Answer
    source: random.Random
    trie: Trie | None
    sequence: Sequence | None = None
    pending: list[int] = field(default_factory=list[int])
    """Tokens drawn whose keys aren't held yet."""


class Engine:
    """A loaded model; `run` draws answers, `score` tells the likelihood of given tokens."""

    def __init__(self, model: Any, tokenizer: Any, capacity: int) -> None:
        self._model = model
        self.tokenizer = tokenizer
        config = model.config
        self._refuse_unknown_attention(config)
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        self._pages = Pages(config.num_hidden_layers, heads, width, model.dtype, capacity)
        self._head = model.get_output_embeddings().weight
        ends = model.generation_config.eos_token_id
        self._ends: frozenset[int] = frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])
        self._end: int = min(self._ends, default=tokenizer.eos_token_id or 0)
        self.max_model_len = min(int(config.max_position_embeddings), (capacity - 2) * PAGE)
        self._adapters: dict[str, tuple[str, str]] = {}  # name to (slot in the model, digest of the files)
        self._peft: Any = None
        self._loaded = 0
        reference = self._reference()
        model.set_attn_implementation(NAME)
        self._check_parity(reference)

    @classmethod
    def load(cls, folder: Path, *, dtype: str = "float32", cache_tokens: int = 16384) -> "Engine":
        """Load a Hugging Face folder with safetensors weights.

        Args:
            folder: config, tokenizer and weights.
            dtype: "float32", or "bfloat16", which is faster with avx512_bf16 and coarser by far, or "float64".
            cache_tokens: tokens whose keys and values are kept.

        Raises:
            ConfigurationError: the folder isn't a model, or isn't one that this engine computes rightly.
        """
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=getattr(torch, dtype), local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"{folder} can't be loaded: {error}. Expected a Hugging Face folder of a causal language model "
                "with config.json, a tokenizer and model.safetensors."
            ) from error
        return cls(model.eval(), tokenizer, cache_tokens // PAGE)

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of a text, special tokens by their names, nothing added."""
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode(self, tokens: Sequences[int]) -> str:
        """Text of tokens, without special ones."""
        return self.tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def chat(self, messages: list[dict[str, str]]) -> str:
        """Render messages by the model's chat template, ready for the assistant's answer.

        Raises:
            ConfigurationError: the model has no chat template, or it refuses the messages.
        """
        try:
            return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except Exception as error:
            raise ConfigurationError(
                f"These messages can't be rendered by the model's chat template: {error}"
            ) from error

    @property
    def vocabulary(self) -> int:
        """Number of token ids."""
        return int(self._head.shape[0])

    @property
    def adapters(self) -> dict[str, str]:
        """Names of loaded adapters and the digests of their files."""
        return {name: digest for name, (_, digest) in sorted(self._adapters.items())}

    def load_adapter(self, name: str, folder: Path) -> None:
        """Load a LoRA adapter; the same name with the same bytes does nothing.

        Raises:
            ConfigurationError: no LoRA in the folder, one that can't be served, or the name is taken by other bytes.
        """
        from peft import PeftConfig, PeftModel

        files = adapter_files(folder)
        digest = digest_tree(files)
        if name in self._adapters:
            if self._adapters[name][1] == digest:
                return
            raise ConfigurationError(
                f"The adapter {name!r} is loaded with other bytes ({self._adapters[name][1][:12]}, now {digest[:12]}). "
                "A name is never loaded twice: use the adapter's digest as its name."
            )
        slot = f"adapter{self._loaded}"
        try:
            config: Any = PeftConfig.from_pretrained(str(folder))
            refused = [
                reason
                for reason, bad in {
                    "not a LoRA": str(config.peft_type.value) != "LORA",
                    "DoRA": getattr(config, "use_dora", False),
                    "bias": getattr(config, "bias", "none") != "none",
                    "modules_to_save": bool(getattr(config, "modules_to_save", None)),
                }.items()
                if bad
            ]
            if refused:
                raise ConfigurationError(f"The adapter in {folder} can't be served: {', '.join(refused)}.")
            if self._peft is None:
                self._peft = PeftModel.from_pretrained(self._model, str(folder), adapter_name=slot)
            else:
                self._peft.load_adapter(str(folder), adapter_name=slot)
        except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
            if isinstance(error, ConfigurationError):
                raise
            raise ConfigurationError(f"The adapter in {folder} doesn't fit this model: {error}") from error
        self._peft.eval()
        self._loaded += 1
        self._adapters[name] = (slot, digest)

    def unload_adapter(self, name: str) -> bool:
        """Drop an adapter and what was computed with it; false if there was none of that name."""
        if name not in self._adapters:
            return False
        slot, _ = self._adapters.pop(name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # which adapter is active is set before every pass
            self._peft.delete_adapter(slot)
        self._pages.forget(name)
        return True

    def clear_cache(self) -> None:
        """Forget all keys and values."""
        self._pages.clear()

    @torch.inference_mode()
    def run(self, requests: Sequences[Request]) -> list[Answer]:
        """Draw one answer to each request; adapters may be mixed.

        Raises:
            ConfigurationError: an unknown adapter, an empty prompt, or one that leaves no room for an answer.
        """
        for request in requests:
            self._check(request)
        answers: dict[int, Answer] = {}
        for adapter in sorted({r.adapter or "" for r in requests}):
            chosen = [i for i, r in enumerate(requests) if (r.adapter or "") == adapter]
            self._activate(adapter or None)
            drawn = self._fitting([requests[i] for i in chosen])
            answers.update(zip(chosen, drawn, strict=True))
        return [answers[i] for i in range(len(requests))]

    @torch.inference_mode()
    def score(self, tokens: tuple[int, ...], adapter: str | None = None) -> list[float | None]:
        """Log-probability of each token given those before it, at temperature 1; none for the first."""
        self._check(Request(prompt=tokens, adapter=adapter, max_tokens=0))
        self._activate(adapter)
        try:
            sequence = Sequence(self._pages.acquire(adapter, (), 0).root)
            scores: list[float | None] = [None]
            for start in range(0, len(tokens), ROW_TOKENS):
                [hidden] = self._forward([(sequence, tokens[start : start + ROW_TOKENS])])
                following = torch.tensor(tokens[start + 1 : start + ROW_TOKENS + 1], dtype=torch.long)
                likelihoods = self._logits(hidden).double().log_softmax(-1)[: len(following)]
                scores.extend(likelihoods.gather(1, following[:, None])[:, 0].tolist())
            self._pages.release(sequence)
        except BaseException:
            self._pages.clear()
            raise
        return scores

    def _check(self, request: Request) -> None:
        if request.adapter is not None and request.adapter not in self._adapters:
            raise ConfigurationError(f"No adapter {request.adapter!r} is loaded; load it first.")
        if not request.prompt:
            raise ConfigurationError("The prompt is empty; expected at least one token.")
        vocabulary = self._head.shape[0]
        if not all(0 <= token < vocabulary for token in request.prompt):
            raise ConfigurationError(f"The prompt has token ids outside 0 to {vocabulary - 1}.")
        if len(request.prompt) + request.max_tokens > self.max_model_len:
            raise ConfigurationError(
                f"This model's maximum context length is {self.max_model_len} tokens; the prompt has "
                f"{len(request.prompt)} and the answer may have {request.max_tokens}. Shorten one of them."
            )

    def _activate(self, adapter: str | None) -> None:
        if self._peft is None:
            return
        if adapter is None:
            self._peft.base_model.disable_adapter_layers()
        else:
            self._peft.base_model.enable_adapter_layers()
            self._peft.base_model.set_adapter(self._adapters[adapter][0], inference_mode=True)

    def _fitting(self, requests: list[Request]) -> list[Answer]:
        """Draw answers in halves where all at once don't fit the pool; that changes no answer."""
        try:
            return self._draw(requests)
        except OutOfPages:
            self._pages.clear()
            if len(requests) == 1:
                raise ConfigurationError("One request needs more than the whole cache; raise --cache-tokens.") from None
            middle = len(requests) // 2
            return self._fitting(requests[:middle]) + self._fitting(requests[middle:])
        except BaseException:
            self._pages.clear()
            raise

    def _draw(self, requests: list[Request]) -> list[Answer]:
        adapter = requests[0].adapter
        prompts = sorted({r.prompt for r in requests})
        for stage in shared_prefixes(prompts):
            shared = [(self._pages.acquire(adapter, prefix, len(prefix)), prefix) for prefix in stage]
            self._forward([(s, prefix[s.length :]) for s, prefix in shared if s.length < len(prefix)])
            for sequence, _ in shared:
                self._pages.release(sequence)
        starts = {p: self._pages.acquire(adapter, p, len(p) - 1) for p in prompts}
        cached = {p: s.length for p, s in starts.items()}
        firsts = self._forward([(starts[p], p[starts[p].length :]) for p in prompts])
        last = {p: hidden[-1] for p, hidden in zip(prompts, firsts, strict=True)}
        rows = [
            _Row(
                request=request,
                answer=Answer(cached_tokens=cached[request.prompt]),
                source=random.Random(request.seed),
                trie=Trie.of(request.choices) if request.choices else None,
            )
            for request in requests
        ]
        live = self._step(rows, torch.stack([last[r.request.prompt] for r in rows]))
        for row in live:
            row.sequence = self._pages.fork(starts[row.request.prompt])
        for sequence in starts.values():
            self._pages.release(sequence)
        while live:
            hidden = self._forward([(row.sequence, tuple(row.pending)) for row in live if row.sequence is not None])
            going = self._step(live, torch.stack([h[-1] for h in hidden]))
            for row in live:
                if row not in going and row.sequence is not None:
                    self._pages.release(row.sequence)
            live = going
        for row in rows:
            self._finish(row)
        return [row.answer for row in rows]

    def _forward(self, work: list[tuple[Sequence, tuple[int, ...]]]) -> list[torch.Tensor]:
        """Compute new tokens at the ends of sequences: final hidden states (tokens, width) of each."""
        done: list[list[torch.Tensor]] = [[] for _ in work]
        left = [tokens for _, tokens in work]
        while any(left):
            rows: list[tuple[Sequence, tuple[int, ...], list[int]]] = []
            members: list[int] = []
            room = PASS_TOKENS
            for index, (sequence, _) in enumerate(work):
                take = left[index][: min(ROW_TOKENS, room)]
                if not take:
                    continue
                rows.append((sequence, take, self._pages.append(sequence, take)))
                members.append(index)
                left[index] = left[index][len(take) :]
                room -= len(take)
            packed = pack(self._pages.pool, rows)
            hidden = self._model.model(
                input_ids=packed.tokens, position_ids=packed.positions, use_cache=False, plan=packed.plan
            ).last_hidden_state[0]
            start = 0
            for index, end in zip(members, packed.ends, strict=True):
                done[index].append(hidden[start:end])
                start = end
        return [torch.cat(parts) if len(parts) > 1 else parts[0] for parts in done]

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits over the vocabulary, (rows, width) to (rows, vocabulary), in padded products."""
        padding = -hidden.shape[0] % TOKENS
        return torch.nn.functional.linear(torch.nn.functional.pad(hidden, (0, 0, 0, padding)), self._head)[
            : hidden.shape[0]
        ]

    def _step(self, rows: list[_Row], hidden: torch.Tensor) -> list[_Row]:
        """Draw the next tokens of each row from its hidden state; returns the rows that need another pass."""
        free = [i for i, row in enumerate(rows) if row.trie is None]
        logits = dict(zip(free, self._logits(hidden[free]), strict=True)) if free else {}
        going: list[_Row] = []
        for i, row in enumerate(rows):
            row.pending = []
            if self._draw_free(row, logits[i]) if row.trie is None else self._draw_choice(row, row.trie, hidden[i]):
                going.append(row)
        return going

    def _draw_free(self, row: _Row, logits: torch.Tensor) -> bool:
        request, answer = row.request, row.answer
        if request.max_tokens == 0:
            return False
        token = self._take(row, Distribution.over(logits, None, request))
        if token in self._ends and not request.ignore_eos:
            answer.finish_reason = "stop"
            return False
        if request.stop:
            text = self.decode(answer.token_ids)
            if any(stop in text for stop in request.stop):
                answer.finish_reason = "stop"
                return False
        return len(answer.token_ids) < request.max_tokens

    def _draw_choice(self, row: _Row, trie: Trie, hidden: torch.Tensor) -> bool:
        """Draw the next token of a label, and go on along the tokens that follow without alternative."""
        request, answer = row.request, row.answer
        drawn = False
        while len(answer.token_ids) < request.max_tokens:
            possible = trie.possible(self._end)
            if not possible:
                answer.finish_reason = "stop"
                return False
            if len(possible) == 1:
                token = possible[0]
                answer.token_ids.append(token)
                answer.logprobs.append(0.0)
                answer.alternatives.append([(token, 0.0)][: request.alternatives])
                row.pending.append(token)
            elif drawn or row.pending:
                row.trie = trie
                return True
            else:
                tokens = torch.tensor(possible, dtype=torch.long)
                logits = (self._head[tokens].double() * hidden.double()).sum(-1)
                token = self._take(row, Distribution.over(logits, tokens, request))
                drawn = True
                if token not in trie.children:  # the end was drawn after a label that others go on from
                    answer.finish_reason = "stop"
                    return False
            trie = trie.children[token]
        answer.finish_reason = "length" if trie.possible(self._end) else "stop"
        return False

    def _take(self, row: _Row, distribution: Distribution) -> int:
        token, logprob = distribution.draw(row.request, row.source)
        row.answer.token_ids.append(token)
        row.answer.logprobs.append(logprob)
        count = row.request.alternatives
        row.answer.alternatives.append(distribution.likeliest(count) if count else [])
        row.pending.append(token)
        return token

    def _finish(self, row: _Row) -> None:
        text = self.decode(row.answer.token_ids)
        ends = [at for stop in row.request.stop if (at := text.find(stop)) >= 0]
        row.answer.text = text[: min(ends)] if ends else text

    def _refuse_unknown_attention(self, config: Any) -> None:
        kinds = {str(kind) for kind in getattr(config, "layer_types", None) or []} - {"full_attention"}
        if kinds or getattr(config, "is_encoder_decoder", False):
            raise ConfigurationError(
                f"The local server computes full causal attention alone; {config.model_type!r} has "
                f"{', '.join(sorted(kinds)) or 'an encoder'}. Serve it with vLLM and pass --model-url."
            )

    def _probe(self) -> tuple[int, ...]:
        size = int(self._head.shape[0])
        return tuple((7919 * i + 13) % size for i in range(PAGE + 9))

    @torch.inference_mode()
    def _reference(self) -> torch.Tensor:
        tokens = torch.tensor([self._probe()])
        likelihoods = self._model(tokens).logits[0].double().log_softmax(-1)
        return likelihoods[:-1].gather(1, tokens[0, 1:, None])[:, 0]

    def _check_parity(self, reference: torch.Tensor) -> None:
        scores = torch.tensor([s for s in self.score(self._probe()) if s is not None], dtype=torch.float64)
        worst = float((scores - reference).abs().max())
        limit = 100 * PARITY if self._head.dtype == torch.bfloat16 else PARITY
        if not worst <= limit:
            raise ConfigurationError(
                f"The local server's log-probabilities differ from the model's own by {worst:.3g} nats (at most "
                f"{limit} expected): {self._model.config.model_type!r} computes something that it doesn't know. "
                "Serve it with vLLM and pass --model-url."
            )
        self._pages.clear()


def adapter_files(folder: Path) -> dict[str, bytes]:
    """The two files of a LoRA adapter, as trained by PEFT.

    Raises:
        ConfigurationError: one is missing.
    """
    names = ("adapter_config.json", "adapter_model.safetensors")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ConfigurationError(f"{folder} is no LoRA adapter: it has no {' and no '.join(missing)}.")
    return {name: (folder / name).read_bytes() for name in names}
