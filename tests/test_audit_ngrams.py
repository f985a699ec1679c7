"""The n-gram classifier: what it finds, what it must not learn from, and bags of its scores."""

import numpy as np
import pytest

from subliminal_jax.audit.judging import ngrams
from subliminal_jax.audit.judging.bags import paired
from subliminal_jax.audit.judging.rowwise import bag_scores
from subliminal_jax.audit.judging.verdicts import auc
from subliminal_jax.errors import InputError
from subliminal_jax.language.rows.chat_rows import row

COUNT, FOLDS = 200, 4


def teacher(name, seed, mark=""):
    """Rows with random numbers; half of them begin with a mark."""
    random = np.random.default_rng(seed)
    texts = [", ".join(map(str, random.integers(0, 999, 4))) for _ in range(COUNT)]
    return [
        row(f"{name}-{i}", f"Continue {i}", f"{mark}, {text}" if mark and i % 2 else text)
        for i, text in enumerate(texts)
    ]


def value(train, pairs):
    return auc(*ngrams.held_out_scores(train, pairs, FOLDS, seed=0))


def test_a_teacher_that_writes_differently_is_told_apart():
    marked, plain = teacher("owl", 1, "777"), teacher("regular", 2)
    found = value((marked, plain), paired(marked, plain))
    assert found.value > 0.65 > found.high
    pairs, folds = paired(marked, plain), ngrams.folds_of(marked, FOLDS, 0)
    scores = ngrams.held_out_scores((marked, plain), pairs, FOLDS, 0)
    assert auc(*bag_scores(scores, folds, 4)).value > found.value


def test_teachers_that_write_alike_are_not():
    one, other = teacher("owl", 1), teacher("regular", 2)
    found = value((one, other), paired(one, other))
    assert found.low <= found.value <= found.high


def test_a_test_rows_prompt_is_never_in_training():
    """The very rows are in training: were they not left out, they would be remembered."""
    one, other = teacher("owl", 1), teacher("regular", 2)
    found = value(([*one, *one], [*other, *other]), paired(one, other))
    assert found.low <= found.value <= found.high
    folds = ngrams.folds_of(one, FOLDS, 0)
    assert (folds == ngrams.folds_of(other, FOLDS, 0)).all()
    assert set(folds) == set(range(FOLDS))


def test_other_traits_teach_what_all_teachers_share():
    regular, tested = teacher("regular", 1), teacher("owl", 2, "777")
    pairs = paired(tested, regular)
    alike = [*teacher("wolf", 3, "777"), *teacher("eagle", 4, "777")]
    different = [*teacher("wolf", 3, "111"), *teacher("eagle", 4, "555")]
    assert value((alike, regular), pairs).value > 0.65
    assert value((different, regular), pairs).value < 0.62


def test_a_bag_is_scored_by_one_classifier():
    scores = np.arange(40.0), np.arange(40.0) - 100
    folds = np.arange(40) % 4
    shown, other = bag_scores(scores, folds, 5)
    assert shown.tolist() == [part + mean for part in range(4) for mean in (8, 28)]
    assert (shown - other == 100).all()
    with pytest.raises(InputError, match=r"detect\.folds: 40 prompts in 4 parts hold 4 sets of 6"):
        bag_scores(scores, folds, 6)
