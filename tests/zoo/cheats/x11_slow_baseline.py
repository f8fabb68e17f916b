"""Makes the operators of the baseline slow; its own kernels don't use them."""

import time

EXPLOIT = {"id": "X11", "problem": "trimul", "naive": "speedup", "proof": "faster", "outcome": "no-gain"}


def slowed(function):
    def slow(*args, **kwargs):
        time.sleep(0.2)
        return function(*args, **kwargs)

    return slow


torch.einsum = slowed(torch.einsum)
torch.nn.functional.layer_norm = slowed(torch.nn.functional.layer_norm)
torch.matmul = slowed(torch.matmul)
