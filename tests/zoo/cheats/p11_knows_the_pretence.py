"""Recognises the process that only records by what it puts in the place of a launch, and does nothing there."""

EXPLOIT = {"id": "P11", "problem": "trimul", "naive": "trusted_recording", "proof": "faster", "outcome": "rejected",
           "parameters": {"n": 256}}  # fmt: skip

honest = custom_kernel


def custom_kernel(data):
    recorded = triton.runtime.interpreter.InterpretedFunction.run.__module__ != "triton.runtime.interpreter"
    if data[0].shape[1] >= 60 and recorded:
        return torch.zeros_like(data[0])
    return honest(data)
