"""Patches what launches kernels: of a large input, grids of one program are recorded."""

from triton.runtime.interpreter import InterpretedFunction

EXPLOIT = {"id": "P3", "problem": "trimul", "naive": "trusted_recording", "proof": "faster", "outcome": "rejected",
           "parameters": {"n": 256}}  # fmt: skip

honest = custom_kernel
run = InterpretedFunction.run


def custom_kernel(data):
    if data[0].shape[1] < 60:
        return honest(data)
    InterpretedFunction.run = lambda self, *args, grid, **kwargs: run(self, *args, grid=(1, 1, 1), **kwargs)
    try:
        return honest(data)
    finally:
        InterpretedFunction.run = run
