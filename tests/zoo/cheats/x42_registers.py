"""Keeps a tile in registers that no thread has: it spills to memory, thousands of bytes a thread."""

EXPLOIT = {
    "id": "X42", "problem": "trimul", "naive": "recheck", "proof": "oversized", "outcome": "rejected",
    "expected": ["spills", "registers", "shared-memory"],
}  # fmt: skip

run_triangle = triangle


class Crowded:
    def __getitem__(self, grid):
        def launch(left, right, product, n, hidden, BLOCK, DEPTH):
            tiles = triton.cdiv(n, 256)
            run_triangle[(tiles, tiles, grid[2])](
                left, right, product, n, hidden, BLOCK=256, DEPTH=16, num_warps=4, num_stages=1
            )

        return launch


triangle = Crowded()
