"""JSON that a candidate wrote: parsed so that nothing in it can upset what the trusted side does next."""

import json
from typing import cast

from pydantic import JsonValue

from ...core import canonical_json

_DEPTH = 64


def parse_untrusted(data: bytes) -> JsonValue:
    """Parse JSON bytes into a value that has a canonical form.

    Raises:
        ValueError: it isn't UTF-8 JSON, or holds NaN, an infinity, half a surrogate pair, a number of thousands of
            digits, or lists and objects nested more than 64 deep.
    """
    try:
        value: JsonValue = json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if _is_deeper(value, _DEPTH):
        raise ValueError(f"it is nested more than {_DEPTH} deep")
    canonical_json(cast("dict[str, JsonValue]", value))  # its error is a ValueError
    return value


def _is_deeper(value: JsonValue, left: int) -> bool:
    if not isinstance(value, list | dict):
        return False
    inner = value if isinstance(value, list) else list(value.values())
    return left == 0 or any(_is_deeper(each, left - 1) for each in inner)
