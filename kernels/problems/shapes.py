"""Families of shapes."""

from collections.abc import Sequence

from ..problem import Variant


def smaller_variants(variant: Variant, name: str, sizes: Sequence[int]) -> list[Variant]:
    """Those of the rising even sizes that are below the variant's, one more each if its own is odd, and the variant."""
    own = variant[name]
    below = [size + own % 2 for size in sizes if size + own % 2 < own]
    smaller = [variant.model_copy(update={"parameters": variant.parameters | {name: size}}) for size in below]
    return [*smaller, variant]
