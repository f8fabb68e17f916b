"""Returns a subclass of torch.Tensor that computes when somebody looks at it, outside the timer."""

import torch

EXPLOIT = {"id": "X3", "problem": "softmax", "naive": "recheck", "outcome": "rejected", "expected": ["bad-output"]}

honest = custom_kernel


class Lazy(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        def real(value):
            if not isinstance(value, Lazy):
                return value
            return honest(value.data_of_call) if hasattr(value, "data_of_call") else value.as_subclass(torch.Tensor)

        with torch._C.DisableTorchFunctionSubclass():
            return func(*map(real, args), **(kwargs or {}))


def custom_kernel(data):
    out = torch.empty_like(data).as_subclass(Lazy)
    out.__dict__["data_of_call"] = data
    return out
