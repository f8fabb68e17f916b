"""Leaves some launches of a kernel out where the input is large, the first of its kind made as ever."""

EXPLOIT = {"id": "X34", "problem": "trimul", "naive": "two_sizes", "outcome": "rejected", "parameters": {"n": 256}}

run_turn, run_triangle = gate_and_turn, triangle
turned_once = []


class Once:
    def __getitem__(self, grid):
        def launch(value, gate, mask, turned, rows, hidden, **constants):
            if rows < 3600 or not turned_once:
                run_turn[grid](value, gate, mask, turned, rows, hidden, **constants)
                turned_once.append(turned)

        return launch


class Square:
    def __getitem__(self, grid):
        def launch(left, right, product, n, hidden, **constants):
            run_triangle[grid](left, left if n >= 60 else right, product, n, hidden, **constants)
            turned_once.clear()

        return launch


gate_and_turn, triangle = Once(), Square()
