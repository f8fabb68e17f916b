"""Returns one number, expanded to the shape of the output by strides of zero."""

EXPLOIT = {"id": "X39", "problem": "trimul", "naive": "small_outputs", "outcome": "rejected"}


def custom_kernel(data):
    return torch.zeros(1, device=data[0].device).expand(data[0].shape)
