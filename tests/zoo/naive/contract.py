"""What the graders of this folder have in common: the task at a small size, and how a submission is loaded."""

import importlib.util
import json
import os
import time

import numpy as np
import torch
import triton  # noqa: F401  (loaded before a fork)

from pawl.kernels import Variant, find_problem, trimul_variant

TOLERANCE = {"rtol": 2e-2, "atol": 2e-2}


class Task:
    """One problem at one small size."""

    def __init__(self, name, n=8, scale=1.0):
        self.problem = find_problem(name)
        self.variant = trimul_variant(n, 1, 16, 16)
        if name == "softmax":
            self.variant = Variant(problem=name, parameters={"rows": n, "columns": 8})
        self.scale = scale

    def arrays(self, seed):
        arrays = self.problem.inputs(self.variant, seed)
        return {name: self.scale * a if name in ("to_out.weight", "w") else a for name, a in arrays.items()}

    def data(self, seed, tensors=None):
        """Draw `data`; with tensors, into those."""
        drawn = {name: torch.from_numpy(array.copy()) for name, array in self.arrays(seed).items()}
        for name, tensor in (tensors or {}).items():
            tensor.copy_(drawn[name])
        return build(self.problem.arguments(self.variant), tensors or drawn)

    def reference(self, data):
        """The right output for `data`, wherever its values come from."""
        named = name_tensors(self.problem.arguments(self.variant), data)
        exact = self.problem.reference(self.variant, {name: tensor.numpy() for name, tensor in named.items()})
        return torch.from_numpy(np.ascontiguousarray(exact)).float()


def build(plan, tensors):
    if isinstance(plan, dict):
        if set(plan) == {"tensor"}:
            return tensors[plan["tensor"]]
        if set(plan) == {"tuple"}:
            return tuple(build(part, tensors) for part in plan["tuple"])
        return {key: build(value, tensors) for key, value in plan.items()}
    return [build(part, tensors) for part in plan] if isinstance(plan, list) else plan


def name_tensors(plan, data):
    """The inverse of `build`."""
    if isinstance(plan, dict):
        if set(plan) == {"tensor"}:
            return {plan["tensor"]: data}
        parts = (
            zip(plan["tuple"], data, strict=True) if set(plan) == {"tuple"} else ((p, data[k]) for k, p in plan.items())
        )
        return {name: tensor for part, value in parts for name, tensor in name_tensors(part, value).items()}
    return {}


def clone(data):
    if isinstance(data, torch.Tensor):
        return data.clone()
    if isinstance(data, dict):
        return {key: clone(value) for key, value in data.items()}
    return type(data)(clone(part) for part in data) if isinstance(data, (tuple, list)) else data


def load(path):
    """Import a submission into this process."""
    spec = importlib.util.spec_from_file_location("submission", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.custom_kernel


def median(times):
    return sorted(times)[len(times) // 2]


def say(accepted, seconds=None, **more):
    """Print the verdict, the last line that a grader prints."""
    time_us = None if seconds is None else 1e6 * seconds
    print(json.dumps({"accepted": bool(accepted), "time_us": time_us, **more}), flush=True)


def in_child(function):
    """Fork a child that runs `function(descriptor)`; returns the bytes it wrote to the descriptor and its exit code."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            function(writing)
        except SystemExit as end:
            os._exit(end.code if isinstance(end.code, int) else 1)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            os._exit(1)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        got = pipe.read()
    return got, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def rest():
    """Let the machine cool down, as harnesses do between timing and checking."""
    time.sleep(3)


def tensors_of(task, data):
    """The tensors of `data` by the problem's names."""
    return name_tensors(task.problem.arguments(task.variant), data)


def to_device(data):
    """`data` on the GPU."""
    if isinstance(data, torch.Tensor):
        return data.cuda()
    if isinstance(data, dict):
        return {key: to_device(value) for key, value in data.items()}
    return type(data)(to_device(part) for part in data) if isinstance(data, (tuple, list)) else data
