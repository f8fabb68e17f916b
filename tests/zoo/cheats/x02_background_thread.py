"""Returns an empty tensor at once; a thread fills it in later."""

import threading

EXPLOIT = {"id": "X2", "problem": "softmax", "naive": "window", "outcome": "rejected"}

honest = custom_kernel


one_at_a_time = threading.Lock()


def custom_kernel(data):
    out = torch.empty_like(data)

    def later():
        with one_at_a_time:
            out.copy_(honest(data))

    threading.Thread(target=later, daemon=True).start()
    return out
