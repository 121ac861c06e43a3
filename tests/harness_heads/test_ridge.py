"""The head `ridge`: the closed formula, its penalty by leave-one-out, and what it learns."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from harness_heads import RidgeSettings

WEIGHTS = np.array([0.5, -0.3, 0.0, 0.2])


def linear_law(rows: int, noise: float = 0.0, seed: int = 0):
    """Features of different units, and κ of which log10 is linear in them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 4))
    log_kappa = 1 + x @ WEIGHTS + noise * rng.normal(size=rows)
    return x * [1, 1000, 1e-3, 1] + [0, 5, 1, 0], 10**log_kappa


def closed_formula(x, kappa, alpha: float, asked):
    """Ridge regression written out: standardised features, a free intercept."""
    mean, std, y = x.mean(0), x.std(0), np.log10(kappa)
    z = (x - mean) / std
    weights = np.linalg.solve(z.T @ z + alpha * np.eye(x.shape[1]), z.T @ (y - y.mean()))
    return 10 ** (y.mean() + (asked - mean) / std @ weights)


def test_it_recovers_a_linear_law_of_the_logarithm(fit) -> None:
    x, kappa = linear_law(300)
    predict = fit("ridge", x[:200], kappa[:200])
    assert predict(x[200:]) == pytest.approx(kappa[200:], rel=1e-3)


@pytest.mark.parametrize("alpha", [0.01, 1.0, 100.0])
def test_one_penalty_is_taken_as_it_is(fit, alpha) -> None:
    x, kappa = linear_law(60, noise=0.3)
    found = fit("ridge", x[:40], kappa[:40], alphas=[alpha])(x[40:])
    assert found == pytest.approx(closed_formula(x[:40], kappa[:40], alpha, x[40:]), rel=1e-9)


@pytest.mark.parametrize("noise", [0.05, 3.0])
def test_the_penalty_is_the_one_that_leave_one_out_prefers(fit, noise) -> None:
    x, kappa = linear_law(12, noise, seed=3)
    alphas = (0.1, 1.0, 10.0, 100.0, 1000.0)
    z = (x - x.mean(0)) / x.std(0)

    def left_out(alpha: float) -> float:
        """Σ of squared errors of 12 fits, each to 11 rows, written out."""
        errors = []
        for i in range(len(z)):
            others = np.arange(len(z)) != i
            own, y = z[others], np.log10(kappa[others])
            centred = own - own.mean(0)
            gram = centred.T @ centred + alpha * np.eye(4)
            weights = np.linalg.solve(gram, centred.T @ (y - y.mean()))
            predicted = y.mean() + (z[i] - own.mean(0)) @ weights
            errors.append(predicted - np.log10(kappa[i]))
        return float(np.square(errors).sum())

    best = min(alphas, key=left_out)
    chosen = fit("ridge", x, kappa, alphas=alphas)(x)
    assert chosen == pytest.approx(fit("ridge", x, kappa, alphas=[best])(x), rel=1e-9)
    others = [fit("ridge", x, kappa, alphas=[alpha])(x) for alpha in alphas if alpha != best]
    assert not any(np.allclose(chosen, other, rtol=1e-6) for other in others)


def test_it_beats_the_mean_on_composition_features(fit, dataset1) -> None:
    embeddings, kappa, fold = dataset1
    logs = np.log10(kappa)
    ours, mean = np.empty(len(kappa)), np.empty(len(kappa))
    for tested in (fold == k for k in range(5)):
        ours[tested] = fit("ridge", embeddings[~tested], kappa[~tested])(embeddings[tested])
        mean[tested] = logs[~tested].mean()
    assert np.abs(np.log10(ours) - logs).mean() < 0.5 * np.abs(mean - logs).mean()


def test_kappa_has_its_unit(fit) -> None:
    x, kappa = linear_law(50, noise=0.2)
    once, tenfold = fit("ridge", x, kappa)(x), fit("ridge", x, 10 * kappa)(x)
    assert tenfold == pytest.approx(10 * once, rel=1e-9)


def test_it_depends_neither_on_the_order_of_rows_nor_on_the_seed(fit) -> None:
    x, kappa = linear_law(50, noise=0.2)
    order = np.random.default_rng(1).permutation(50)
    first, again = fit("ridge", x, kappa, seed=1)(x), fit("ridge", x, kappa, seed=2)(x)
    assert np.array_equal(first, again)
    assert fit("ridge", x[order], kappa[order])(x) == pytest.approx(first, rel=1e-9)


def test_twins_count_twice_and_do_no_harm(fit) -> None:
    x = [[0.0], [0.0], [1.0], [1.0]]
    predicted = fit("ridge", x, [1, 100, 10, 1000], alphas=[1e-9])([[0.0], [1.0]])
    assert predicted == pytest.approx([10, 100], rel=1e-6)


def test_kappa_stays_positive_and_finite_however_far_away(fit) -> None:
    x, kappa = linear_law(50)
    for factor in (-1e6, 1e6):
        predicted = fit("ridge", x, kappa)(factor * x)
        assert np.isfinite(predicted).all() and (predicted > 0).all()


@pytest.mark.parametrize("rows", [2, 8])
def test_a_few_rows_are_enough(fit, rows) -> None:
    x, kappa = linear_law(rows)
    predicted = fit("ridge", x, kappa)(x)
    assert (predicted >= kappa.min() * 0.5).all() and (predicted <= kappa.max() * 2).all()


def test_constant_features_change_nothing(fit) -> None:
    x, kappa = linear_law(30, noise=0.1)
    padded = np.column_stack([np.full(30, 1 / 3), x, np.zeros(30)])
    assert fit("ridge", padded, kappa)(padded) == pytest.approx(fit("ridge", x, kappa)(x), rel=1e-9)
    alone = fit("ridge", padded[:, :1], kappa)(padded[:, :1])
    assert alone == pytest.approx(np.full(30, 10 ** np.log10(kappa).mean()))


def test_equal_targets_are_predicted(fit) -> None:
    x, _ = linear_law(7)
    assert fit("ridge", x, np.full(7, 0.7))(x) == pytest.approx(np.full(7, 0.7))


def test_distorted_labels_below_zero_count_as_the_floor(fit) -> None:
    x, _ = linear_law(4)
    below = fit("ridge", x, [-0.2, 0, 5, 7])(x)
    assert below == pytest.approx(fit("ridge", x, [0.01, 0.01, 5, 7])(x))


@pytest.mark.parametrize("alphas", [[], [0], [1, -1], [float("inf")], [float("nan")]])
def test_penalties_that_make_no_fit_are_refused(alphas) -> None:
    with pytest.raises(ValidationError, match="alphas"):
        RidgeSettings(alphas=alphas)
