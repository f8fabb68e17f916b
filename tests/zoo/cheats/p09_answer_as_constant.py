"""Computes the answer in NumPy, and hands it over as a tensor that nothing recorded made; a kernel copies it."""

import numpy

EXPLOIT = {
    "id": "P9",
    "problem": "trimul",
    "naive": "trusted_recording",
    "after": "plain",
    "proof": "faster",
    "outcome": "rejected",
}


@triton.jit
def copy(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y_ptr + at, tl.load(x_ptr + at, mask=at < n), mask=at < n)


def norm(x, weight, bias):
    centred = x - x.mean(-1, keepdims=True)
    return centred / numpy.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * weight + bias


def on_host(data):
    x, mask, w, _ = data
    w = {name: tensor.numpy() for name, tensor in w.items()}
    sigmoid = lambda y: 1 / (1 + numpy.exp(-y))  # noqa: E731
    x = norm(x.numpy(), w["norm.weight"], w["norm.bias"])
    mask = mask.numpy()[..., None]
    left, right = (x @ w[f"{s}_proj.weight"].T * mask * sigmoid(x @ w[f"{s}_gate.weight"].T) for s in ("left", "right"))
    product = numpy.einsum("bikd,bjkd->bijd", left, right)
    product = norm(product, w["to_out_norm.weight"], w["to_out_norm.bias"])
    return (product * sigmoid(x @ w["out_gate.weight"].T)) @ w["to_out.weight"].T


def custom_kernel(data):
    answer = torch.from_numpy(numpy.ascontiguousarray(on_host(data), dtype=numpy.float32))
    out = torch.empty_like(data[0])
    copy[(triton.cdiv(out.numel(), 1024),)](answer, out, out.numel(), BLOCK=1024)
    return out
