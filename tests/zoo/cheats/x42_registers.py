"""Allows its threads next to no registers, for more of them at once: a tile of sums spills to memory."""

EXPLOIT = {
    "id": "X42", "problem": "trimul", "naive": "recheck", "proof": "oversized", "outcome": "rejected",
    "expected": ["spills", "registers", "compile-error"],
}  # fmt: skip

run_triangle = triangle


class Crowded:
    def __getitem__(self, grid):
        def launch(left, right, product, n, hidden, BLOCK, DEPTH):
            run_triangle[grid](left, right, product, n, hidden, BLOCK=BLOCK, DEPTH=DEPTH, num_warps=1, maxnreg=32)

        return launch


triangle = Crowded()
