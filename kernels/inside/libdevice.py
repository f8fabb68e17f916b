# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false
"""NumPy's and torch's versions of the functions of NVIDIA's libdevice that kernels call.

They agree with libdevice to a few units in the last place, which is how well libdevice itself is documented.

This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from .formats import Unsupported


def call(symbol: str, operands: list[np.ndarray]) -> np.ndarray:
    """Compute `__nv_NAME` elementwise.

    Raises:
        Unsupported: the name isn't known here.
    """
    name = symbol.removeprefix("__nv_").removeprefix("fast_")
    function = FUNCTIONS.get(name) or FUNCTIONS.get(name.removesuffix("f")) or FUNCTIONS.get(name.removesuffix("d"))
    if function is None:
        raise Unsupported(f"the interpreter has no libdevice function {symbol}: write it in Triton's own operations")
    return function(*operands)


def special(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """A function of `torch.special` on NumPy arrays."""

    def apply(x: np.ndarray) -> np.ndarray:
        return getattr(torch.special, name)(torch.from_numpy(np.array(x))).numpy()

    return apply


def _bits(x: np.ndarray) -> np.ndarray:
    return np.unpackbits(np.ascontiguousarray(x)[..., None].view(np.uint8), axis=-1, bitorder="little")


FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(np, name) for name in (
        "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "sinh", "cosh", "tanh", "sqrt",
        "cbrt", "floor", "ceil", "trunc", "rint", "fmod", "fmax", "fmin", "hypot", "copysign", "nextafter", "signbit",
        "isnan", "isinf", "isfinite", "abs", "fabs", "ldexp", "power",
    )},
    **{name: getattr(np, "arc" + name[1:]) for name in (
        "acos", "asin", "atan", "acosh", "asinh", "atanh", "atan2",
    )},
    **{name: special(name) for name in ("erf", "erfc", "erfinv", "erfcx")},
    "llabs": np.abs,
    "finite": np.isfinite,
    "nearbyint": np.rint,
    "scalbn": np.ldexp,
    "pow": np.power,
    "powi": np.power,
    "exp10": lambda x: np.power(x.dtype.type(10), x),
    "fdividef": np.divide,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "frsqrt_rn": lambda x: 1 / np.sqrt(x),
    "rcbrt": lambda x: 1 / np.cbrt(x),
    "lgamma": special("gammaln"),
    "tgamma": lambda x: np.exp(special("gammaln")(x)) * np.where((x < 0) & (np.floor(x) % 2 != 0), -1, 1),
    "normcdf": special("ndtr"),
    "normcdfinv": special("ndtri"),
    "cyl_bessel_i0": special("i0"),
    "cyl_bessel_i1": special("i1"),
    "round": lambda x: np.copysign(np.floor(np.abs(x) + x.dtype.type(0.5)), x),
    "saturate": lambda x: np.fmin(np.fmax(x, 0), 1),
    "fdim": lambda x, y: np.where(x > y, x - y, 0),
    "remainder": lambda x, y: x - y * np.rint(x / y),
    "fma": lambda x, y, z: (x.astype(np.float64) * y + z),
    "cospi": lambda x: np.cos(np.pi * x),
    "sinpi": lambda x: np.sin(np.pi * x),
    "popc": lambda x: _bits(x).sum(-1),
    "popcll": lambda x: _bits(x).sum(-1),
    "clz": lambda x: np.where(x == 0, x.itemsize * 8, np.argmax(_bits(x)[..., ::-1], -1)),
    "clzll": lambda x: np.where(x == 0, x.itemsize * 8, np.argmax(_bits(x)[..., ::-1], -1)),
    "ffs": lambda x: np.where(x == 0, 0, np.argmax(_bits(x), -1) + 1),
    "ffsll": lambda x: np.where(x == 0, 0, np.argmax(_bits(x), -1) + 1),
    **{f"{kind}{name}_rn": function for kind in "fd" for name, function in (
        ("add", np.add), ("sub", np.subtract), ("mul", np.multiply), ("div", np.divide), ("sqrt", np.sqrt),
        ("rcp", lambda x: 1 / x),
    )},
    "fma_rn": lambda x, y, z: (x.astype(np.float64) * y + z),
    "float_as_int": lambda x: x.view(np.int32),
    "float_as_uint": lambda x: x.view(np.uint32),
    "int_as_float": lambda x: x.view(np.float32),
    "uint_as_float": lambda x: x.view(np.float32),
}  # fmt: skip
