"""Promises of the store of kernels and of PUCT over it: what is kept, what counts, and who is picked."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pawl.kernels.generation import Keep, Puct, Trial, digest_source, grow, pick, scores

SEED = "seed"
D = digest_source


def trial(source: str, parent: str | None, value: float | None, **about: object) -> Trial:
    return Trial(source=source, parent=None if parent is None else D(parent), value=value, about=about)


TREE = [
    trial("a", SEED, 1.0),
    trial("b", SEED, 0.4),
    trial("broken", SEED, None),
    trial("c", "a", 0.6),
    trial("also broken", "a", None),
]
"""seed (0) -> a (1.0), b (0.4); a -> c (0.6); one failure below the seed, one below a."""


def test_scores_are_those_computed_by_hand() -> None:
    store = grow(SEED, TREE)
    assert store.open == (D("a"), D("c"), D("b"), D(SEED))
    assert store.trials == 5
    assert [store.visits[D(each)] for each in (SEED, "a", "b", "c")] == [5, 2, 0, 0]
    # scale = 1.0 - 0.0; ranks a, c, b, seed give P = .4, .3, .2, .1; sqrt(1 + 5) = 2.449490
    root = math.sqrt(6)
    expected = {
        "a": 0.6 + 0.4 * root / 3,  # its best child is worth 0.6; it was tried twice
        "c": 0.6 + 0.3 * root / 1,
        "b": 0.4 + 0.2 * root / 1,
        SEED: 1.0 + 0.1 * root / 6,  # its best child is worth 1.0; everything counts as a visit of it
    }
    assert scores(store) == {D(name): pytest.approx(value) for name, value in expected.items()}


def test_a_batch_spreads_over_lines_and_then_counts_its_own_picks() -> None:
    store = grow(SEED, TREE)
    # c (1.335) blocks a and the seed; b (0.890) is of another line. Then, with c and b tried once more each:
    # T = 7: a .6+.4*sqrt(8)/4 = .883, c .6+.3*sqrt(8)/2 = 1.024, b .4+.2*sqrt(8)/2 = .683, seed 1+.1*sqrt(8)/8 = 1.035
    assert [kernel.source for kernel in pick(store, 3)] == ["c", "b", SEED]
    assert [kernel.source for kernel in pick(store, 2)] == ["c", "b"]


def test_without_weight_on_the_untried_the_best_reached_value_decides() -> None:
    store = grow(SEED, TREE)
    assert [kernel.source for kernel in pick(store, 1, Puct(c=0.0))] == [SEED]  # it led to 1.0


def test_only_the_best_children_of_a_kernel_and_the_best_of_all_are_gone_on_from() -> None:
    many = [trial(f"k{number}", SEED, number / 10) for number in range(5)]
    assert [kernel.source for kernel in grow(SEED, many).best(9)] == ["k4", "k3", SEED]
    small = grow(SEED, [*many, trial("deep", "k4", 0.9)], Keep(children=2, buffer=1))
    assert [kernel.source for kernel in small.best(9)] == ["deep", SEED]
    assert len(small.kernels) == 7  # the others remain ancestors


def test_a_text_is_one_kernel_with_its_first_parent_and_its_mean_value() -> None:
    store = grow(
        SEED, [trial("a", SEED, 0.2, n=1), trial("b", "a", 0.5), trial("a", "b", 0.6, n=2), trial("b", "b", 0.7)]
    )
    a, b = store.kernels[D("a")], store.kernels[D("b")]
    assert (a.parent, a.value, a.about) == (D(SEED), pytest.approx(0.4), {"n": 2})
    assert b.value == pytest.approx(0.6)
    assert store.trials == 3  # writing one's own parent again tries nothing
    assert store.ancestors(D("b")) == [D("a"), D(SEED)]


def test_a_parent_that_nobody_knows_counts_as_the_seed_and_a_text_too_long_is_not_kept() -> None:
    long = "x" * 101
    store = grow(SEED, [trial("a", "nobody", 0.1), trial(long, None, 9.0)], Keep(source_bytes=100))
    assert store.kernels[D("a")].parent == D(SEED)
    assert D(long) not in store.kernels
    assert store.visits[D(SEED)] == 2


NAMES = st.sampled_from([SEED, *"abcdefgh"])
TRIALS = st.lists(
    st.builds(
        Trial,
        source=NAMES,
        parent=NAMES.map(D) | st.none(),
        value=st.none() | st.floats(-2, 4) | st.sampled_from([math.nan, math.inf]),
    ),
    max_size=30,
)


@given(trials=TRIALS, count=st.integers(0, 12))
def test_whatever_was_tried_the_tree_hangs_together_and_picks_are_open_kernels(trials: list[Trial], count: int) -> None:
    store = grow(SEED, trials)
    assert store == grow(SEED, trials)
    assert store.seed in store.open
    for digest, kernel in store.kernels.items():
        assert math.isfinite(kernel.value)
        line = store.ancestors(digest)  # no circles
        assert (line[-1] if line else digest) == store.seed
        assert all(store.visits[above] >= store.visits[digest] for above in line)
    assert store.visits[store.seed] == store.trials
    picked = [kernel.digest for kernel in pick(store, count)]
    assert len(picked) == count
    assert set(picked) <= set(store.open)
    first = picked[: len(set(picked))]
    if count:
        best = max(scores(store).values())
        assert scores(store)[first[0]] == best


@given(trials=TRIALS)
def test_kernels_of_one_pass_are_of_different_lines(trials: list[Trial]) -> None:
    store = grow(SEED, trials)
    first, *rest = pick(store, 3)
    if rest and rest[0].digest != first.digest:
        related = first.digest in store.ancestors(rest[0].digest) or rest[0].digest in store.ancestors(first.digest)
        others = [
            digest
            for digest in store.open
            if digest != first.digest
            and first.digest not in store.ancestors(digest)
            and digest not in store.ancestors(first.digest)
        ]
        assert not (related and others)


@given(trials=TRIALS, failures=st.integers(1, 5))
def test_failures_make_a_kernel_no_more_attractive_than_it_was_against_the_untried(
    trials: list[Trial], failures: int
) -> None:
    store = grow(SEED, trials)
    target = store.open[0]
    worse = grow(SEED, [*trials, *(Trial(f"broken {n}", target, None) for n in range(failures))])
    assert worse.open == store.open
    bonus = {
        name: scores(tree, Puct(c=1.0))[target] - scores(tree, Puct(c=0.0))[target]
        for name, tree in {"before": store, "after": worse}.items()
    }
    others = [each for each in store.open if each != target and each not in store.ancestors(target)]
    for other in others:
        gain = {
            name: scores(tree, Puct(c=1.0))[other] - scores(tree, Puct(c=0.0))[other]
            for name, tree in {"before": store, "after": worse}.items()
        }
        assert gain["after"] * bonus["before"] >= bonus["after"] * gain["before"] - 1e-9
