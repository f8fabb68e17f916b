"""The zoo of submissions: cheats, each with a naive grader that it gets past, and honest kernels of unusual kinds.

    for exploit in exploits():
        report = await verifier.verify(exploit.source, exploit.variant)
        assert exploit.failed_to_gain(report)

A cheat is one file of `cheats/`: a submission with `custom_kernel(data)` whose header `EXPLOIT` is read, never run:

| key | says |
|---|---|
| `id` | `X1` to `X44`, the known exploits; `P1` and on, attacks on the way this verifier works |
| `problem`, `variant`, `precision` | what it answers; parameters beside the usual small ones |
| `after` | what stands before it: the problem's `seed`, `plain` torch, or nothing |
| `naive` | the grader of `naive/` that it gets past |
| `proof` | what shows that it cheats: see `naive/truth.py` |
| `needs` | `cpu` or `gpu`: where the naive grader can be run |
| `outcome` | `rejected`, or `no-gain`: accepted at a time no better than that of the honest kernel |
| `expected` | failure classes, any of which is right; all are if there are none |
"""

from .submissions import CHEATS, Exploit, Outcome, exploits, header, honest_source, honest_sources

__all__ = ["CHEATS", "Exploit", "Outcome", "exploits", "header", "honest_source", "honest_sources"]
