# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingParameterType=false, reportUnknownParameterType=false
"""Attention with sinks under any mask, without a matrix of scores for every head.

A sink is a logit of each head that takes part in the softmax and adds nothing to the output (gpt-oss, arXiv 2508.10925,
section 2.2). It is a further key that every token sees: queries get a coordinate of 1 and keys one of 0, but for the
sink's own key, which is 0 elsewhere and has its logit there; its value is 0. PyTorch's attention then does the rest.
"""

from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

SINKS = "pawl_sinks"
"""The name of this attention for `attn_implementation`."""

_WIDTH = 8
"""Coordinates that are added, all but one empty: kernels want widths that are multiples of this."""


def attend(
    module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, *, scaling: float, s_aux: Tensor, **_
) -> tuple[Tensor, None]:
    """Attention of a transformers model's layer.

    Args:
        module: the layer's attention, for the number of query heads that share a key head.
        query: (B, H, L, E)
        key: (B, H / groups, L, E)
        value: (B, H / groups, L, E)
        attention_mask: (B or 1, 1, L, L), added to the scores.
        scaling: of the scores.
        s_aux: (H,) logits of the sinks.

    Returns:
        (B, L, H, E), and None in the place of weights.
    """
    groups, size = module.num_key_value_groups, query.shape[-1]
    key, value = (each.repeat_interleave(groups, 1) if groups > 1 else each for each in (key, value))
    query = pad(query, (0, _WIDTH))
    query[..., size] = 1
    key, value = (pad(each, (0, _WIDTH, 0, 1)) for each in (key, value))
    key[..., -1, size] = (s_aux / scaling).to(key.dtype)
    output = scaled_dot_product_attention(query, key, value, attn_mask=pad(attention_mask, (0, 1)), scale=scaling)
    return output[..., :size].transpose(1, 2).contiguous(), None


AttentionInterface.register(SINKS, attend)
AttentionMaskInterface.register(SINKS, eager_mask)
