"""Hand out a tree whose names leave the folder it is unpacked in: `..`, absolute, through links; as tar and zip."""

import contextlib
import io
import json
import os
import tarfile
import zipfile

OUTSIDE_LOOKS = True


def prepare(arena):
    (arena.host / "in").mkdir()
    return {"target": str(arena.host / "slipped")}


def attack(given, attempt):
    target = given["target"]
    names = [f"../{os.path.basename(target)}-1", f"{target}-2", f"./../{os.path.basename(target)}-3"]
    names += [f"a/../../{os.path.basename(target)}-4", f"..\\{os.path.basename(target)}-5", "x\0y", "", "."]

    def tar():
        with tarfile.open("tree.tar", "w") as archive:
            for name in names[:3]:
                entry = tarfile.TarInfo(name)
                entry.size = 4
                archive.addfile(entry, io.BytesIO(b"slip"))
            link = tarfile.TarInfo("door")
            link.type, link.linkname = tarfile.SYMTYPE, os.path.dirname(target)
            archive.addfile(link)
            entry = tarfile.TarInfo(f"door/{os.path.basename(target)}-6")
            entry.size = 4
            archive.addfile(entry, io.BytesIO(b"slip"))

    def packed():
        with zipfile.ZipFile("tree.zip", "w") as archive:
            for name in names[:4]:
                archive.writestr(name, "slip")

    def as_json():
        with open("tree.json", "w") as file:
            json.dump(dict.fromkeys(names, "slip"), file)

    for name, way in (("tar", tar), ("zip", packed), ("json", as_json)):
        attempt(name, way)


def verdict(arena, result):
    from pawl.core import ArtifactStore, PawlError, canonical_json, digest_bytes
    from pawl.safety.sandbox import read_result

    into = arena.host / "in"
    tree = json.loads(read_result(arena.work, "tree.json", 1 << 20) or b"{}")
    if arena.guarded:
        store = ArtifactStore(arena.host / "artifacts")
        for name, text in tree.items():
            # Through the front door, and with a manifest that was put in the store as plain bytes.
            manifest = store.put(canonical_json({name: store.put(text.encode())}))
            with contextlib.suppress(PawlError, OSError, ValueError):
                store.checkout(store.put_tree({name: text.encode()}), into)
            with contextlib.suppress(PawlError, OSError, ValueError):
                store.checkout(manifest, into)
        # Pawl unpacks no archive that a candidate wrote: such a file is bytes to it, under their digest.
        for name in ("tree.tar", "tree.zip"):
            data = read_result(arena.work, name, 1 << 20)
            assert data is not None
            assert store.path(store.put(data)).name == digest_bytes(data)
    else:
        with tarfile.open(arena.work / "tree.tar") as archive:
            archive.extractall(into, filter="fully_trusted")
        for name, text in tree.items():
            try:
                (into / name).parent.mkdir(parents=True, exist_ok=True)
                (into / name).write_text(text)
            except (OSError, ValueError):
                continue
    found = sorted(path.name for path in arena.host.glob("slipped*"))
    return [f"{len(found)} files lie outside the folder: {', '.join(found)}"] if found else []
