"""What a submission really does, seen from outside: what no naive grader asks.

Prints, as `PROOF` in the environment asks, what it found on fresh inputs, on new values at known addresses, on inputs
that differ in one element or nearly have a structure:

| key | says |
|---|---|
| `wrong` | calls whose output's bytes, read right after the call, are off by more than 1 %, or that changed an input |
| `rewritten` | outputs that were right and changed later |
| `relative_l2`, `slope` | the largest error of the outputs that were right, and how far they are scaled |
| `idle` | whether the output is right with every Triton kernel made a no-op |
| `copies` | whether the output is right without kernels if what it calls `copied` is left out |
| `disordered` | whether it is wrong where programs run backwards or all at once |
| `strays` | accesses outside the tensors that a kernel was given |
| `reached` | whether a kernel changed the process's environment |
"""

import builtins
import os
import sys

import numpy as np
import torch
from contract import Task, clone, load, say, tensors_of
from triton.runtime import interpreter
from triton.runtime.autotuner import Autotuner
from triton.runtime.interpreter import InterpretedFunction, InterpreterBuilder

from pawl.kernels.inside import interpret

LIMIT = 1e-2
load_masked, store_masked = InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store
run_kernel = InterpretedFunction.run
strays = []


def read(output, shape):
    """The bytes of an output, whatever it says of itself; none where they are not one fp32 tensor's."""
    if type(output) is not torch.Tensor or output.dtype != torch.float32 or tuple(output.size()) != shape:
        return None
    if not output.is_contiguous() or np.prod(output.stride()) == 0:
        return None
    start, count = output.storage_offset(), int(np.prod(shape))
    whole = (torch.empty(0, dtype=torch.float32)).set_(output.untyped_storage(), start, (count,), (1,))
    return np.array(whole.numpy()).reshape(shape)


def compare(task, data, output):
    """Relative error and distance of the slope from 1, or none for what is no output."""
    exact = task.problem.reference(task.variant, {name: t.numpy() for name, t in tensors_of(task, data).items()})
    got = read(output, exact.shape)
    if got is None or not np.isfinite(got).all():
        return None
    got = got.astype(np.float64)
    return float(np.linalg.norm(got - exact) / np.linalg.norm(exact)), float(
        abs(np.vdot(got, exact) / np.vdot(exact, exact) - 1)
    )


def calls(task):
    first = {name: torch.from_numpy(a.copy()) for name, a in task.arrays(101).items()}
    yield task.data(101, first)
    yield task.data(102)
    again = task.data(104, first)
    yield again
    changed = clone(again)
    tensor = next(iter(tensors_of(task, changed).values()))
    tensor.view(-1)[900 % tensor.numel()] += 40.0
    yield changed
    if "mask" in tensors_of(task, again):
        near = clone(again)
        tensors_of(task, near)["mask"][:, 1:] = 0
        yield near
    for seed in range(105, 108):
        yield task.data(seed)


def judge(task, custom_kernel, inputs):
    """Each call's error, or none; and the number of right outputs that changed later."""
    errors, kept = [], []
    for data in inputs:
        before = clone(data)
        try:
            output = custom_kernel(data)
            error = compare(task, before, output)
        except Exception as failure:
            print(f"{type(failure).__name__}: {failure}")
            error = None
        pairs = zip(tensors_of(task, data).values(), tensors_of(task, before).values(), strict=True)
        same = all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)
        errors.append(error if error is not None and error[0] <= LIMIT and same else None)
        if errors[-1] is not None:
            kept.append((output, output.clone()))
    return errors, sum(not torch.equal(output, copy) for output, copy in kept)


def right(task, path):
    errors, _ = judge(task, load(path), [task.data(201)])
    return errors[0] is not None


def tuned(self, *arguments, **options):
    """The configuration that a tuner on a device might choose, and that a check of the first doesn't see."""
    return self.fn.run(*arguments, **options, **self.configs[-1].all_kwargs())


def watched(self, *arguments, **options):
    """Run a kernel and note accesses outside the storages of its arguments."""
    spans = []
    for value in [*arguments, *options.values()]:
        if isinstance(value, torch.Tensor):
            storage = value.untyped_storage()
            spans.append((storage.data_ptr(), storage.data_ptr() + storage.nbytes()))

    def look(pointers, mask):
        seen = np.broadcast_to(mask.data, pointers.data.shape)
        at = pointers.data[seen].astype(np.int64)
        inside = np.zeros(at.shape, bool)
        for low, high in spans:
            inside |= (at >= low) & (at < high)
        strays.extend(at[~inside].tolist())

    def loading(builder, pointers, mask, *rest):
        look(pointers, mask)
        return load_masked(builder, pointers, mask, *rest)

    def storing(builder, pointers, value, mask, *rest):
        look(pointers, mask)
        return store_masked(builder, pointers, value, mask, *rest)

    InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store = loading, storing
    try:
        return run_kernel(self, *arguments, **options)
    finally:
        InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store = load_masked, store_masked


def out_of_order(task, path):
    """Whether the output is wrong where programs run backwards, or many at once."""
    interpreter.range = lambda *given: list(builtins.range(*given))[::-1]
    backwards = right(task, path)
    interpreter.range = builtins.range
    interpret.install()
    return not (backwards and right(task, path))


def main():
    os.environ["GRADER_MODE"] = "benchmark"
    proof, size, path = os.environ["PROOF"], int(os.environ["SIZE"]), sys.argv[1]
    task = Task(sys.argv[2], size)
    Autotuner.run = tuned
    if proof == "disordered":
        return say(right(task, path), disordered=out_of_order(task, path))
    if proof == "idle":
        InterpretedFunction.run = lambda *arguments, **options: None
        idle = right(task, path)
        return say(idle, idle=idle)
    if proof == "copies":
        custom_kernel = load(path)
        custom_kernel.__globals__["copied"] = lambda tensor: tensor
        InterpretedFunction.run = lambda *arguments, **options: None
        errors, _ = judge(task, custom_kernel, [task.data(201)])
        return say(None not in errors, copies=None not in errors)
    if proof == "strays":
        InterpretedFunction.run = watched
        return say(right(task, path), strays=len(strays))
    inputs = calls(task) if size == 8 else [task.data(201), task.data(202)]
    errors, rewritten = judge(task, load(path), inputs)
    found = [error for error in errors if error is not None]
    relative_l2, slope = (max((error[part] for error in found), default=None) for part in (0, 1))
    reached = "REACHED" in os.environ
    wrong = errors.count(None)
    return say(not wrong, wrong=wrong, rewritten=rewritten, relative_l2=relative_l2, slope=slope, reached=reached)


main()
