"""The head `boosting`: what it learns, and that nothing but its rows and seed matters."""

from __future__ import annotations

import numpy as np


def step_law(rows: int, seed: int = 0):
    """Features, and κ that has a step in the first and none of the others."""
    x = np.random.default_rng(seed).normal(size=(rows, 5))
    return x, 10 ** np.where(x[:, 0] > 0, 2.0, 1.0)


def test_it_learns_a_step_that_no_smooth_law_can_follow(fit) -> None:
    x, kappa = step_law(400)
    predicted = fit("boosting", x[:200], kappa[:200])(x[200:])
    assert np.abs(np.log10(predicted / kappa[200:])).mean() < 0.1


def test_predictions_stay_within_what_was_seen(fit) -> None:
    x, kappa = step_law(100)
    predicted = fit("boosting", x, kappa)(1000 * x)
    assert kappa.min() * 0.8 < predicted.min() < predicted.max() < kappa.max() * 1.25


def test_the_order_of_rows_does_not_matter(fit) -> None:
    x, kappa = step_law(60)
    one, other = fit("boosting", x, kappa), fit("boosting", x[::-1], kappa[::-1])
    assert np.array_equal(one(x), other(x))


def test_the_seed_decides_what_is_drawn(fit) -> None:
    x, kappa = step_law(60)
    first, again, other = (fit("boosting", x, kappa, seed=seed)(x) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_it_beats_the_mean_on_dataset1(fit, dataset1) -> None:
    x, kappa, folds = dataset1
    errors = []
    for fold in range(5):
        known = folds != fold
        predicted = fit("boosting", x[known], kappa[known])(x[~known])
        errors += np.abs(np.log10(predicted / kappa[~known])).tolist()
    assert np.mean(errors) < 0.35  # the mean of log κ comes to 0.5
