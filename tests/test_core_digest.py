import json
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pawl.core import ConfigurationError, Version, canonical_json, derive_seed, digest_bytes, digest_json, digest_tree

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    scalars | text, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4), max_leaves=12
)
paths = st.lists(st.sampled_from(["a", "b", "c", "prompt.md"]), min_size=1, max_size=3).map("/".join)
trees = st.dictionaries(paths, st.binary(max_size=20), max_size=5)


def shuffled(value: object) -> object:
    """The same value with the keys of every object in the opposite order."""
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(list(value))}
    return [shuffled(entry) for entry in value] if isinstance(value, list) else value


@given(values)
def test_canonical_json_loses_nothing_and_forgets_the_order_of_keys(value: object):
    data = canonical_json(value)  # type: ignore[arg-type]
    assert json.loads(data) == value
    assert canonical_json(json.loads(data)) == data
    assert canonical_json(shuffled(value)) == data  # type: ignore[arg-type]


@given(values, values)
def test_different_json_has_different_digests(one: object, other: object):
    same = canonical_json(one) == canonical_json(other)  # type: ignore[arg-type]
    assert (digest_json(one) == digest_json(other)) == same  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, {"a": [math.nan]}, {"a": object()}, {"a": b"bytes"}])
def test_what_json_has_no_form_for_is_refused(bad: object):
    with pytest.raises(ConfigurationError, match="canonical JSON"):
        canonical_json(bad)  # type: ignore[arg-type]


def test_digests_are_sha256_and_never_change():
    assert digest_bytes(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert canonical_json({"b": [1, 2.5, None, True], "a": "é\n"}) == '{"a":"é\\n","b":[1,2.5,null,true]}'.encode()
    version = Version(scaffold="a" * 64, base_model="smollm2")
    assert version.id == digest_bytes(
        b'{"adapter":null,"base_model":"smollm2","sampling":{"max_tokens":512,"temperature":1.0,"top_p":1.0},'
        b'"scaffold":"' + b"a" * 64 + b'"}'
    )


@given(trees, trees)
def test_trees_are_equal_when_their_paths_and_bytes_are(one: dict[str, bytes], other: dict[str, bytes]):
    assert digest_tree(dict(reversed(one.items()))) == digest_tree(one)
    assert (digest_tree(one) == digest_tree(other)) == (one == other)


@given(st.integers(0, 2**63 - 1), st.lists(st.integers() | text, max_size=4))
def test_seeds_are_63_bits_and_depend_on_every_part_of_where(seed: int, where: list[int | str]):
    drawn = derive_seed(seed, *where)
    assert 0 <= drawn < 2**63
    assert drawn == derive_seed(seed, *where)
    assert drawn != derive_seed(seed + 1, *where)
    assert drawn != derive_seed(seed, *where, 0)


def test_seeds_are_the_same_in_another_process():
    program = "from pawl.core import derive_seed; print(derive_seed(7, 'task_agent', 3, 'item', 0))"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert int(said) == derive_seed(7, "task_agent", 3, "item", 0)
