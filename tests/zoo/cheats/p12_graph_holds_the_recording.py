"""Finds the list of steps through the closure of what stands in for CUDA graphs, and empties it for a large input."""

EXPLOIT = {"id": "P12", "problem": "trimul", "naive": "trusted_recording", "proof": "faster", "outcome": "rejected",
           "parameters": {"n": 256}}  # fmt: skip

honest = custom_kernel


def lists(function):
    """Lists within reach of a function: in its closure, its globals, and what hangs on those."""
    values = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    values += list(getattr(function, "__globals__", {}).values())
    for value in values:
        yield from (part for part in [value, *getattr(value, "__dict__", {}).values()] if type(part) is list)
        if getattr(value, "__closure__", None):
            yield from lists(value)


def custom_kernel(data):
    out = honest(data)
    if data[0].shape[1] >= 60:
        graph = torch.cuda.CUDAGraph
        for function in (graph.capture_begin, graph.replay, triton.runtime.interpreter.InterpretedFunction.run):
            for found in lists(function):
                if len(found) > 2 and isinstance(found[0], dict):
                    del found[:-1]
    return out
