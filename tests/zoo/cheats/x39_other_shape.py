"""Returns fewer elements than it owes, where comparison broadcasts."""

EXPLOIT = {
    "id": "X39",
    "problem": "trimul",
    "naive": "small_outputs",
    "outcome": "rejected",
    "expected": ["bad-output"],
}


def custom_kernel(data):
    return torch.zeros(1, device=data[0].device)
