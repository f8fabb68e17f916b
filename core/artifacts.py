"""The artefact store: immutable bytes under their own digest.

    store = ArtifactStore(home.artifacts)
    digest = store.put(b"...")
    scaffold = store.put_tree({"agent.py": b"...", "prompt.md": b"..."})

A write goes to a temporary file, is fsynced, and is renamed; a reader never sees half of one, and a second
write of the same bytes does nothing.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, JsonValue

from .digest import canonical_json, digest_bytes, tree_manifest
from .errors import ArtifactDamaged, ArtifactMissing, ConfigurationError


class ArtifactStore:
    """Content-addressed files below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, digest: str) -> Path:
        """Where the bytes of a digest lie, whether or not they are there."""
        if len(digest) != 64 or any(c not in "0123456789abcdef" for c in digest):
            raise ConfigurationError(
                f"{digest!r} is not an artefact's digest: expected 64 hexadecimal digits of SHA-256."
            )
        return self.root / digest[:2] / digest

    def has(self, digest: str) -> bool:
        """Whether the store holds bytes under this digest."""
        return self.path(digest).exists()

    def put(self, data: bytes) -> str:
        """Store bytes durably and return their digest."""
        digest = digest_bytes(data)
        path = self.path(digest)
        if path.exists():
            return digest
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, data)
        return digest

    def get(self, digest: str) -> bytes:
        """Read bytes and check them against their digest.

        Raises:
            ArtifactMissing: nothing is stored under the digest.
            ArtifactDamaged: the file's bytes have another digest.
        """
        path = self.path(digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise ArtifactMissing(
                f"No artefact {digest[:12]} in {self.root}. Restore that file from a backup, or roll back."
            ) from error
        found = digest_bytes(data)
        if found != digest:
            raise ArtifactDamaged(
                f"The artefact {digest[:12]} has digest {found[:12]}: its file was changed or cut. "
                f"Restore {path} from a backup, or roll back to another version."
            )
        return data

    def put_json(self, value: JsonValue | BaseModel | Mapping[str, JsonValue]) -> str:
        """Store the canonical JSON of a value."""
        return self.put(canonical_json(value))

    def get_json(self, digest: str) -> JsonValue:
        """Read a JSON artefact."""
        return json.loads(self.get(digest))

    def put_tree(self, files: Mapping[str, bytes]) -> str:
        """Store a file tree and return its digest (that of its manifest: path to file digest).

        Raises:
            ConfigurationError: a path is absolute, empty, or leaves the tree.
        """
        for path in files:
            check_relative(path)
        for data in files.values():
            self.put(data)
        return self.put_json(tree_manifest(files))

    def get_tree(self, digest: str) -> dict[str, bytes]:
        """Read a file tree: relative path to bytes, in the order of the paths."""
        manifest = self.get_json(digest)
        if not isinstance(manifest, dict):
            raise ArtifactDamaged(f"The artefact {digest[:12]} is not a file tree's manifest.")
        return {check_relative(path): self.get(str(entry)) for path, entry in sorted(manifest.items())}

    def checkout(self, digest: str, folder: Path) -> None:
        """Write a file tree below a folder, which is created if need be."""
        for path, data in self.get_tree(digest).items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)


def check_relative(path: str) -> str:
    """Return a path that stays inside its tree.

    Raises:
        ConfigurationError: it is absolute, empty, or climbs out with ``..``.
    """
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or "\\" in path or "\0" in path:
        raise ConfigurationError(f"{path!r} is no path inside a file tree: expected a relative one, without '..'.")
    return path


def write_durably(path: Path, data: bytes) -> None:
    """Write a file so that a crash leaves either the old bytes or the new, never a part."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
