"""Leaves the triangle to torch, as it may: in fp64 where sums are short, and in fp16 where they are long."""

EXPLOIT = {
    "id": "X37", "problem": "trimul", "naive": "two_sizes", "proof": "imprecise", "outcome": "rejected",
    "precision": "fp32", "parameters": {"n": 256}, "expected": ["precision"],
}  # fmt: skip


class Torch:
    def __getitem__(self, grid):
        def launch(left, right, product, n, hidden, BLOCK, DEPTH):
            kind = torch.float16 if n >= 60 else torch.float64
            left, right = left.view(-1, n, n).to(kind), right.view(-1, n, n).to(kind)
            made = torch.bmm(left, right.transpose(1, 2))
            product.copy_(made.view(-1, hidden, n, n).permute(0, 2, 3, 1))

        return launch


triangle = Torch()
