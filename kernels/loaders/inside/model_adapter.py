# pyright: reportUndefinedVariable=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false, reportMissingParameterType=false
# pyright: reportIncompatibleMethodOverride=false
# ruff: noqa: D100, D103, F821, RUF012
# What stands behind a submission that defines ModelNew. It draws nothing: every parameter is one that it is given.
import torch
import torch.overrides


class _ModelNewUndrawn(torch.overrides.TorchFunctionMode):
    """While a model is built, leaves out the random values, which the given state replaces."""

    empty = {
        "rand": torch.empty, "randn": torch.empty, "rand_like": torch.empty_like, "randn_like": torch.empty_like,
    }  # fmt: skip
    in_place = frozenset({"uniform_", "normal_", "exponential_"})
    fixed = frozenset({"zeros_", "ones_", "constant_", "eye_", "dirac_"})

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        of_init = getattr(func, "__module__", "") == "torch.nn.init" and name not in self.fixed
        if name in self.in_place or (of_init and name.endswith("_")):
            return args[0] if args else kwargs["tensor"]
        if name in self.empty:
            kwargs.pop("generator", None)
            func = self.empty[name]
        return func(*args, **kwargs)


_model_new_built = {}


def _model_new_construct(init, state):
    named = init if isinstance(init, dict) else {}
    listed = [] if isinstance(init, dict) else list(init)
    if len(listed) == 2 and isinstance(listed[0], list) and isinstance(listed[1], dict):
        listed, named = listed
    with _ModelNewUndrawn():
        model = ModelNew(*listed, **named)
    own = {name: tuple(value.shape) for name, value in model.named_parameters()}
    given = {name: tuple(value.shape) for name, value in state.items()}
    known = [name for name in own if given.get(name) == own[name]]
    if len(known) == len(own):
        return model, {name: name for name in model.state_dict() if name in given}
    # The same seed draws the same values in the same order, whatever they are called.
    ordered = [name for name in given if len(given[name]) and not name.endswith(("running_mean", "running_var"))]
    if [own[name] for name in own] == [given[name] for name in ordered]:
        return model, dict(zip(own, ordered, strict=True))
    raise TypeError(f"ModelNew has the parameters {own}, expected those of Model: {given}")


def custom_kernel(data):
    init, inputs, state = data["init"], data["inputs"], data["state"]
    key = repr(init)
    with torch.no_grad():
        if key not in _model_new_built:
            _model_new_built[key] = _model_new_construct(init, state)
        model, names = _model_new_built[key]
        model.load_state_dict({name: state[given] for name, given in names.items()}, strict=False, assign=True)
        for value in inputs:
            if isinstance(value, torch.Tensor) and value.is_cuda:
                model.to(value.device)
                break
        return model(*inputs)
