"""Launches its kernels on a quarter of the programs where the input is large."""

EXPLOIT = {"id": "X34", "problem": "trimul", "naive": "two_sizes", "outcome": "rejected", "parameters": {"n": 256}}

honest, run_triangle = custom_kernel, triangle


class Smaller:
    def __getitem__(self, grid):
        def launch(left, right, product, n, hidden, **constants):
            part = max(1, grid[2] // 4) if n >= 60 else grid[2]
            run_triangle[(grid[0], grid[1], part)](left, right, product, n, hidden, **constants)

        return launch


triangle = Smaller()
