from typing import TypedDict  # noqa: TID251

import torch

input_t = tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor], dict[str, int]]
output_t = torch.Tensor


class TestSpec(TypedDict):
    seqlen: int
    bs: int
    dim: int
    hiddendim: int
    seed: int
