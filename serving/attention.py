# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Attention over pages whose results don't depend on the batch: not on its size, its order, or what was cached.

Rounding normally differs with the shape of a matrix product, so that the same request gives other bits in another
batch. Here every product that a token takes part in has one shape for it: rows come in multiples of four (and at
least sixteen tokens a pass), keys in pages at fixed positions, and the sums over pages run in order. Then a product's
row depends on that row alone, an answer repeats bit for bit, and batching is only a matter of speed.
"""

from dataclasses import dataclass

import torch
from transformers import AttentionInterface

from .pages import PAGE, Sequence

NAME = "pawl_paged"
ROWS = 4
TOKENS = 16


@dataclass(frozen=True)
class Plan:
    """Where the packed tokens of one forward pass belong. N packed tokens, R sequences, T queries of each, padded."""

    pool: torch.Tensor
    pages: torch.Tensor
    """(N,) page of each packed token; padding goes to page 0."""
    offsets: torch.Tensor
    """(N,) offset on its page."""
    queries: torch.Tensor
    """(R, T) packed index of each query."""
    unpad: torch.Tensor
    """(N,) index of each packed token in the flattened (R, T)."""
    hidden: torch.Tensor
    """(R, 1, 1, T, keys) true where a query may not look."""
    shared: torch.Tensor
    """(S,) leading pages that all sequences have in common."""
    own: torch.Tensor
    """(R, P) pages after those; padded with page 0, which is hidden."""


@dataclass(frozen=True)
class Packed:
    """The inputs of one forward pass."""

    tokens: torch.Tensor
    positions: torch.Tensor
    plan: Plan
    ends: list[int]
    """Packed index one past the last new token of each sequence."""


def pack(pool: torch.Tensor, rows: list[tuple[Sequence, tuple[int, ...], list[int]]]) -> Packed:
    """Lay out a forward pass over sequences, their new tokens, and the slots of those, already appended."""
    count = sum(len(tokens) for _, tokens, _ in rows)
    padded = max(TOKENS, -(-count // TOKENS) * TOKENS)
    width = -(-max(len(tokens) for _, tokens, _ in rows) // ROWS) * ROWS
    ids = torch.zeros(padded, dtype=torch.long)
    positions = torch.zeros(padded, dtype=torch.long)
    slots = torch.zeros(padded, dtype=torch.long)
    queries = torch.zeros(len(rows), width, dtype=torch.long)
    seen = torch.zeros(len(rows), width, dtype=torch.long)
    unpad = torch.zeros(padded, dtype=torch.long)
    at, ends = 0, list[int]()
    for row, (sequence, tokens, places) in enumerate(rows):
        size = len(tokens)
        steps = torch.arange(size)
        first = sequence.length - size
        ids[at : at + size] = torch.tensor(tokens)
        positions[at : at + size] = first + steps
        slots[at : at + size] = torch.tensor(places)
        queries[row, :size] = at + steps
        seen[row, :size] = first + steps
        unpad[at : at + size] = row * width + steps
        at += size
        ends.append(at)
    tables = [sequence.pages for sequence, _, _ in rows]
    shared = 0
    if len(tables) > 1:
        shortest = min(len(table) for table in tables)
        while shared < shortest and all(table[shared] == tables[0][shared] for table in tables):
            shared += 1
    longest = max(len(table) for table in tables)
    own = torch.tensor([[*table[shared:], *[0] * (longest - len(table))] for table in tables], dtype=torch.long)
    hidden = (torch.arange(longest * PAGE) > seen[..., None])[:, None, None]
    plan = Plan(
        pool=pool,
        pages=slots // PAGE,
        offsets=slots % PAGE,
        queries=queries,
        unpad=unpad,
        hidden=hidden,
        shared=torch.tensor(tables[0][:shared], dtype=torch.long),
        own=own,
    )
    return Packed(ids[None], positions[None], plan, ends)


def paged_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    plan: Plan,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Causal grouped-query attention of packed tokens, in the form of transformers' attention interface.

    Args:
        module: the attention layer, for its index.
        query: shape (1, heads, N, width).
        key: shape (1, key-value heads, N, width); written to the pool.
        value: like `key`.
        attention_mask: unused, the plan says what is hidden.
        scaling: factor of the scores.
        plan: the layout of this pass.

    Returns:
        Shape (1, N, heads, width).
    """
    layer: torch.Tensor = plan.pool[int(module.layer_idx)]  # type: ignore[arg-type]
    layer[0][plan.pages, :, plan.offsets] = key[0].transpose(0, 1)
    layer[1][plan.pages, :, plan.offsets] = value[0].transpose(0, 1)
    groups, width = key.shape[1], key.shape[3]
    each = query.shape[1] // groups
    sequences, steps = plan.queries.shape
    rows = each * steps
    shared, own = plan.shared.shape[0], plan.own.shape[1]

    # (R, T, H, D) to (R, G, rows, D)
    asked = query[0].transpose(0, 1)[plan.queries]
    asked = asked.view(sequences, steps, groups, each, width).permute(0, 2, 3, 1, 4)
    asked = asked.reshape(sequences, groups, rows, width)
    keys, values = layer[0], layer[1]
    precise = torch.promote_types(query.dtype, torch.float32)
    scores = torch.empty(sequences, groups, rows, (shared + own) * PAGE, dtype=precise)
    if shared:
        held = keys[plan.shared].permute(1, 3, 0, 2).reshape(groups, width, shared * PAGE)
        part = torch.bmm(asked.transpose(0, 1).reshape(groups, sequences * rows, width), held)
        scores[..., : shared * PAGE] = part.view(groups, sequences, rows, shared * PAGE).transpose(0, 1)
    if own:
        held = keys[plan.own].permute(0, 2, 4, 1, 3).reshape(sequences * groups, width, own * PAGE)
        part = torch.bmm(asked.view(sequences * groups, rows, width), held)
        scores[..., shared * PAGE :] = part.view(sequences, groups, rows, own * PAGE)
    scores = scores.mul_(scaling).view(sequences, groups, each, steps, (shared + own) * PAGE)
    scores = scores.masked_fill_(plan.hidden, -torch.inf)
    weights = scores.sub_(scores.amax(-1, keepdim=True)).exp_().view(sequences, groups, rows, shared + own, PAGE)
    sums = weights.sum(-1)
    total = sums[..., 0]
    for page in range(1, shared + own):
        total = total + sums[..., page]

    weights = weights.to(query.dtype)
    mixed: torch.Tensor | None = None
    if shared:
        spread = weights[:, :, :, :shared].permute(1, 3, 0, 2, 4).reshape(groups * shared, sequences * rows, PAGE)
        held = values[plan.shared].transpose(0, 1).reshape(groups * shared, PAGE, width)
        parts = torch.bmm(spread, held).view(groups, shared, sequences, rows, width)
        for page in range(shared):
            mixed = parts[:, page] if mixed is None else mixed + parts[:, page]
        mixed = mixed.transpose(0, 1) if mixed is not None else None
    if own:
        spread = weights[:, :, :, shared:].transpose(2, 3).reshape(sequences * groups * own, rows, PAGE)
        held = values[plan.own].transpose(1, 2).reshape(sequences * groups * own, PAGE, width)
        parts = torch.bmm(spread, held).view(sequences, groups, own, rows, width)
        for page in range(own):
            mixed = parts[:, :, page] if mixed is None else mixed + parts[:, :, page]
    assert mixed is not None
    mixed = mixed / total[..., None].to(query.dtype)
    mixed = mixed.view(sequences, groups, each, steps, width).permute(0, 3, 1, 2, 4)
    mixed = mixed.reshape(sequences * steps, groups * each, width)
    return mixed[plan.unpad][None], None


AttentionInterface.register(NAME, paged_attention)
