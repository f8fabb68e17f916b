import os

import torch


def verbose_allclose(received, expected, rtol=1e-05, atol=1e-08, max_print=5):
    apart = torch.abs(received - expected) > atol + rtol * torch.abs(expected)
    wrong = int(apart.sum().item())
    return [f"{wrong} elements are off"] if wrong else []


def match_reference(data, output, reference, rtol=1e-05, atol=1e-08):
    reasons = verbose_allclose(output, reference(data), rtol=rtol, atol=atol)
    return (not reasons, " ".join(reasons))


def make_match_reference(reference, **kwargs):
    def wrapped(data, output):
        return match_reference(data, output, reference=reference, **kwargs)

    return wrapped


class DeterministicContext:
    def __enter__(self):
        self.before = os.environ.get("CUBLAS_WORKSPACE_CONFIG", "")
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        torch.use_deterministic_algorithms(True)
        return self

    def __exit__(self, *error):
        torch.use_deterministic_algorithms(False)
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = self.before
