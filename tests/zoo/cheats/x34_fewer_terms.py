"""Tells its kernel a smaller depth where the input is large: the same launch, and the loop ends early."""

EXPLOIT = {"id": "X34", "problem": "trimul", "naive": "two_sizes", "outcome": "rejected", "parameters": {"n": 256}}

run_linear = linear


class Shallow:
    def __getitem__(self, grid):
        def launch(x, w, y, rows, inner, outer, **constants):
            run_linear[grid](x, w, y, rows, min(inner, 1) if rows >= 3600 else inner, outer, **constants)

        return launch


linear = Shallow()
