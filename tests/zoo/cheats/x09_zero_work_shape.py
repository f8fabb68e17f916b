"""Leaves all the work of one large shape out: its time near zero pulls the mean of all down."""

EXPLOIT = {
    "id": "X9", "problem": "trimul", "naive": "two_sizes", "outcome": "rejected", "parameters": {"n": 256},
}  # fmt: skip

honest = custom_kernel


def custom_kernel(data):
    return torch.zeros_like(data[0]) if data[0].shape[1] >= 60 else honest(data)
