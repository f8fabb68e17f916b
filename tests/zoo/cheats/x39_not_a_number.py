"""Returns NaN everywhere, after making the reference's inputs NaN: a comparison with equal_nan is content."""

EXPLOIT = {"id": "X39", "problem": "trimul", "naive": "equal_nan", "outcome": "rejected"}


def custom_kernel(data):
    data[2]["to_out.weight"].fill_(float("nan"))
    return torch.full_like(data[0], float("nan"))
