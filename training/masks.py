# pyright: reportUnknownMemberType=false
"""Which tokens of a pack see which: a token sees its ancestors, in some layers only the nearest of them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .trees import Pack


def windows(config: Any) -> list[int | None]:
    """How far back each layer of a model looks, in tokens with its own; None for all the way.

    Args:
        config: of a Hugging Face model; where it names no kinds of layers, its window is every layer's.
    """
    window: int | None = getattr(config, "sliding_window", None)
    kinds: Sequence[str] = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
    return [window if kind == "sliding_attention" else None for kind in kinds]


def tree_masks(pack: Pack, wanted: Sequence[int | None], dtype: torch.dtype) -> dict[int | None, Tensor]:
    """The additive masks of a pack of L tokens by window: (1, 1, L, L), 0 where a token is seen and -inf elsewhere.

    Distance is counted along the tree, which is where a token would stand in its own sequence. A window that no token
    of the pack looks out of has the mask of None.
    """
    size = len(pack.tokens)
    ancestors = torch.zeros(size, size, dtype=torch.bool)
    for node, parent in enumerate(pack.parents):
        if parent >= 0:
            ancestors[node] = ancestors[parent]
        ancestors[node, node] = True
    depths, deepest = torch.tensor(pack.depths), max(pack.depths)
    masks: dict[int | None, Tensor] = {}
    for window in sorted(set(wanted), key=lambda window: (window is None, window or 0), reverse=True):
        if window is None or window > deepest:
            masks[window] = masks[None] if None in masks else _additive(ancestors, dtype)
            masks[None] = masks[window]
        else:
            near = depths[:, None] - depths[None, :] < window
            masks[window] = _additive(ancestors & near, dtype)
    return masks


def _additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(1, 1, *seen.shape, dtype=dtype).masked_fill_(~seen, float("-inf"))
