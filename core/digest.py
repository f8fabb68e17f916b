"""Canonical JSON and SHA-256: the identity of everything that Pawl stores.

>>> digest_json({"b": 1, "a": 2}) == digest_json({"a": 2, "b": 1})
True
"""

import hashlib
import json
from collections.abc import Mapping

from pydantic import BaseModel, JsonValue

from .errors import ConfigurationError


def canonical_json(value: JsonValue | BaseModel | Mapping[str, JsonValue]) -> bytes:
    """Encode as UTF-8 JSON with sorted keys and no white space, so that equal values are equal bytes.

    Raises:
        ConfigurationError: the value holds NaN, an infinity, or something that JSON has no form for.
    """
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    try:
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"This value has no canonical JSON: {error}. Expected finite numbers, strings, lists and objects."
        ) from error


def digest_bytes(data: bytes) -> str:
    """SHA-256 as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def digest_json(value: JsonValue | BaseModel | Mapping[str, JsonValue]) -> str:
    """SHA-256 of the canonical JSON of a value."""
    return digest_bytes(canonical_json(value))


def tree_manifest(files: Mapping[str, bytes]) -> dict[str, JsonValue]:
    """Map each relative path of a file tree to the digest of its bytes, in the order of the paths."""
    return {path: digest_bytes(files[path]) for path in sorted(files)}


def digest_tree(files: Mapping[str, bytes]) -> str:
    """Content digest of a file tree: the digest of its manifest."""
    return digest_json(tree_manifest(files))
