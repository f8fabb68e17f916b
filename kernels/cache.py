"""A folder of JSON answers by digest, with a second folder that is read and never written."""

import json
import os
import tempfile
from pathlib import Path

from pydantic import JsonValue

from ..core import digest_json


class JsonCache:
    """Answers under (kind, key); a file that can't be read counts as missing."""

    def __init__(self, root: Path, fallback: Path | None = None) -> None:
        self.root = root
        self.fallback = fallback

    def get(self, kind: str, key: JsonValue) -> JsonValue:
        """The answer, or none."""
        name = _name(kind, key)
        for root in (self.root, self.fallback):
            if root is not None:
                try:
                    return json.loads((root / name).read_bytes())
                except (OSError, ValueError):
                    continue
        return None

    def put(self, kind: str, key: JsonValue, value: JsonValue) -> None:
        """Write an answer so that a reader sees all of it or nothing."""
        path = self.root / _name(kind, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
        with os.fdopen(handle, "w") as file:
            json.dump(value, file, sort_keys=True)
        os.replace(temporary, path)


def _name(kind: str, key: JsonValue) -> Path:
    digest = digest_json(key)
    return Path(kind) / digest[:2] / f"{digest}.json"
