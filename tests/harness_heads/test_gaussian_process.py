"""The head `gp`: interpolation, honest uncertainties, units, seeds and bounds of its cost."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF

from harness.plugin import Uncertain
from harness_heads import GpSettings
from harness_heads.gaussian_process import shape_of

KERNELS = ("matern", "rbf")


def smooth_law(rows: int, noise: float = 0.0, seed: int = 0):
    """Three features, and κ of which log10 is a smooth function of them, with noise in decades."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, size=(rows, 3))
    logs = 1 + np.sin(2 * x[:, 0]) + 0.5 * x[:, 1] ** 2 + noise * rng.normal(size=rows)
    return x, 10**logs


def draw_of_its_prior(kernel: str, rows: int, seed: int):
    """One function drawn from the process itself, at random places, with white noise.

    Variance 1, length 0.7 in two dimensions and noise of variance 0.04, written out.
    """
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, size=(rows, 2))
    r = np.linalg.norm(x[:, None] - x[None], axis=2) / 0.7
    s = np.sqrt(5) * r
    covariance = np.exp(-(r**2) / 2) if kernel == "rbf" else (1 + s + s**2 / 3) * np.exp(-s)
    root = np.linalg.cholesky(covariance + 0.04 * np.eye(rows))
    return x, 10 ** (root @ rng.normal(size=rows))


@pytest.mark.parametrize("kernel", KERNELS)
def test_it_interpolates_data_without_noise(fit, kernel) -> None:
    x, kappa = smooth_law(60)
    said = fit("gp", x, kappa, kernel=kernel)(x)
    assert said.median == pytest.approx(kappa, rel=0.01)
    assert (said.std < 0.01).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_uncertainty_grows_away_from_the_data_up_to_the_prior(fit, kernel) -> None:
    x, kappa = smooth_law(60)
    away = np.linspace(1, 200, 40)[:, None] * [[1.0, 0.5, -0.5]]
    said = fit("gp", x, kappa, kernel=kernel)(away)
    assert (np.diff(said.std) >= -1e-9).all()
    assert said.std[-1] > 20 * said.std[0]
    assert said.std[-1] == pytest.approx(said.std[-2])
    assert said.median[-1] == pytest.approx(10 ** np.log10(kappa).mean(), rel=1e-3)


@pytest.mark.parametrize("kernel", KERNELS)
def test_intervals_cover_what_they_say_on_draws_of_the_prior(fit, kernel) -> None:
    """10 functions × 80 new measurements; rows of one function err together, hence ± 0.05."""
    deviations = []
    for seed in range(10):
        x, kappa = draw_of_its_prior(kernel, 140, seed)
        said = fit("gp", x[:60], kappa[:60], kernel=kernel, restarts=0)(x[60:])
        deviations.append(np.log10(said.median / kappa[60:]) / said.std)
    for share in (0.5, 0.9):
        covered = np.abs(deviations) < norm.ppf((1 + share) / 2)
        assert covered.mean() == pytest.approx(share, abs=0.05)


def test_uncertainty_is_in_decades_and_includes_the_noise(fit) -> None:
    rng = np.random.default_rng(0)
    for noise in (0.1, 0.8):
        logs = noise * rng.normal(size=200)
        said = fit("gp", np.ones((200, 2)), 10**logs)(np.ones((1, 2)))
        assert said.std == pytest.approx([logs.std()], rel=0.05)
        assert np.log10(said.median) == pytest.approx([logs.mean()], abs=0.05)


def test_intervals_cover_and_errors_halve_on_composition_features(fit, dataset1) -> None:
    embeddings, kappa, fold = dataset1
    logs = np.log10(kappa)
    ours, std, mean = np.empty((3, len(kappa)))
    for tested in (fold == k for k in range(5)):
        said = fit("gp", embeddings[~tested], kappa[~tested])(embeddings[tested])
        ours[tested], std[tested] = np.log10(said.median), said.std
        mean[tested] = logs[~tested].mean()
    assert np.abs(ours - logs).mean() < 0.5 * np.abs(mean - logs).mean()
    assert 0.8 < np.mean(np.abs(ours - logs) < norm.ppf(0.95) * std) < 0.98


def test_kappa_has_its_unit_and_its_uncertainty_none(fit) -> None:
    x, kappa = smooth_law(50, noise=0.1)
    once, tenfold = fit("gp", x, kappa)(x), fit("gp", x, 10 * kappa)(x)
    assert tenfold.median == pytest.approx(10 * once.median, rel=1e-3)
    assert tenfold.std == pytest.approx(once.std, rel=1e-3)


def same(one: Uncertain, other: Uncertain) -> bool:
    return np.array_equal(one.median, other.median) and np.array_equal(one.std, other.std)


@pytest.mark.parametrize("bounds", [{}, {"kernel_rows": 20}, {"max_rows": 30, "kernel_rows": 20}])
def test_neither_the_order_of_rows_nor_chance_changes_one_bit(fit, bounds) -> None:
    x, kappa = smooth_law(50, noise=0.1)
    order = np.random.default_rng(1).permutation(50)
    first = fit("gp", x, kappa, 2**40 + 1, **bounds)(x)
    assert same(first, fit("gp", x, kappa, 2**40 + 1, **bounds)(x))
    assert same(first, fit("gp", x[order], kappa[order], 2**40 + 1, **bounds)(x))


# --- length scales ----------------------------------------------------------------------------


def with_distractors(rows: int, seed: int = 0):
    """The smooth law of three features, and six more that say nothing."""
    x, kappa = smooth_law(rows, noise=0.02, seed=seed)
    return np.hstack([x, np.random.default_rng(seed + 9).normal(size=(rows, 6))]), kappa


BLOCKS = (("law", 3), ("noise", 6))


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_length_for_each_block_or_feature_tells_what_matters(fit, kernel) -> None:
    (x, kappa), (asked, true) = with_distractors(60), with_distractors(200, seed=1)
    settings = {"blocks": BLOCKS, "kernel": kernel}
    errors = {}
    for scales in ("shared", "blocks", "each"):
        said = fit("gp", x, kappa, length_scales=scales, **settings)(asked)
        errors[scales] = np.abs(np.log10(said.median / true)).mean()
    assert errors["blocks"] < 0.7 * errors["shared"]
    assert errors["each"] < 0.7 * errors["shared"]


def test_one_block_has_the_length_that_all_features_share(fit) -> None:
    x, kappa = smooth_law(40, noise=0.1)
    shared = fit("gp", x, kappa)(x)
    assert same(shared, fit("gp", x, kappa, length_scales="blocks")(x))
    assert same(shared, fit("gp", x, kappa, blocks=(("a", 1), ("b", 2)))(x))


@pytest.mark.parametrize("scales", ["blocks", "each"])
def test_more_lengths_depend_on_neither_order_nor_chance(fit, scales) -> None:
    x, kappa = with_distractors(40)
    order = np.random.default_rng(1).permutation(40)
    settings = {"seed": 3, "blocks": BLOCKS, "length_scales": scales}
    first = fit("gp", x, kappa, **settings)(x)
    assert same(first, fit("gp", x, kappa, **settings)(x))
    assert same(first, fit("gp", x[order], kappa[order], **settings)(x))


def test_a_block_of_smooth_kernels_divides_its_features_by_its_length() -> None:
    blocks = shape_of("rbf", "blocks", (("a", 1), ("b", 2)))
    blocks.theta = np.log([0.5, 2.0])
    x = np.random.default_rng(0).normal(size=(10, 3))
    assert blocks(x) == pytest.approx(RBF([0.5, 2.0, 2.0])(x))


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_gradient_of_blocks_is_that_of_their_covariances(kernel) -> None:
    shape = shape_of(kernel, "blocks", BLOCKS)
    x, step = np.random.default_rng(0).normal(size=(8, 9)), 1e-5
    _, gradient = shape(x, eval_gradient=True)
    for number in range(2):
        moved = [shape.theta + sign * step * np.eye(2)[number] for sign in (1, -1)]
        above, below = (shape.clone_with_theta(theta)(x) for theta in moved)
        assert gradient[..., number] == pytest.approx((above - below) / (2 * step), abs=1e-6)


def test_more_rows_than_allowed_are_thinned_by_the_seed(fit) -> None:
    x, kappa = smooth_law(60)
    thinned = fit("gp", x, kappa, seed=1, max_rows=20)(x)
    other = fit("gp", x, kappa, seed=2, max_rows=20)(x)
    for said in (thinned, other):  # without noise, the rows that were learnt from stand out
        assert 20 <= np.sum(np.abs(np.log10(said.median / kappa)) < 1e-3) < 60
    least = [set(np.argsort(said.std)[:20]) for said in (thinned, other)]
    assert least[0] != least[1]
    chosen = sorted(least[0])
    alone = fit("gp", x[chosen], kappa[chosen], seed=1)(x)
    assert thinned.median == pytest.approx(alone.median, rel=0.01)


def test_rows_that_the_kernel_is_not_chosen_on_are_learnt_from(fit) -> None:
    x, kappa = smooth_law(60)
    said = fit("gp", x, kappa, kernel_rows=30)(x)
    assert said.median == pytest.approx(kappa, rel=1e-3)
    assert fit("gp", x, kappa, max_rows=30)(x).median != pytest.approx(kappa, rel=1e-3)


def test_many_rows_are_predicted_in_parts(fit) -> None:
    x, kappa = smooth_law(10)
    predict = fit("gp", x, kappa)
    said = predict(np.tile(x, (250, 1)))
    assert said.median == pytest.approx(np.tile(predict(x).median, 250))
    assert said.std == pytest.approx(np.tile(predict(x).std, 250), rel=1e-3)
    assert predict(np.empty((0, 3))).median.shape == (0,)


@pytest.mark.parametrize("rows", [2, 8])
def test_a_few_rows_are_enough(fit, rows) -> None:
    x, kappa = smooth_law(rows)
    said = fit("gp", x, kappa)(10 * x)
    assert np.isfinite(said.std).all() and (said.std > 0).all()
    assert (said.median > kappa.min() / 10).all() and (said.median < kappa.max() * 10).all()


def test_equal_targets_are_predicted(fit) -> None:
    x, _ = smooth_law(7)
    said = fit("gp", x, np.full(7, 0.7))(x)
    assert said.median == pytest.approx(np.full(7, 0.7))
    assert np.isfinite(said.std).all()


def test_twins_that_differ_become_noise(fit) -> None:
    x, kappa = smooth_law(40)
    twice = np.concatenate([kappa, 4 * kappa])
    said = fit("gp", np.concatenate([x, x]), twice)(x)
    assert (said.std > 0.25).all()  # a twin is log10 2 = 0.30 decades from the middle
    assert (np.abs(np.log10(said.median / (2 * kappa))) < said.std).all()


def test_distorted_labels_below_zero_count_as_the_floor(fit) -> None:
    x, _ = smooth_law(4)
    assert same(fit("gp", x, [-0.2, 0, 5, 7])(x), fit("gp", x, [0.01, 0.01, 5, 7])(x))


def test_a_parameter_at_its_bound_is_no_warning(fit) -> None:
    x, kappa = smooth_law(40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit("gp", x, kappa)  # noise that is not there
        fit("gp", np.ones((5, 2)), kappa[:5])  # features that are no use


def test_a_search_that_did_not_converge_is_a_warning(fit, monkeypatch) -> None:
    original = GaussianProcessRegressor.fit

    def fit_and_give_up(self, known, targets):
        warnings.warn("lbfgs failed to converge", ConvergenceWarning, stacklevel=2)
        return original(self, known, targets)

    monkeypatch.setattr(GaussianProcessRegressor, "fit", fit_and_give_up)
    with pytest.warns(ConvergenceWarning, match="lbfgs failed"):
        fit("gp", *smooth_law(10))


@pytest.mark.parametrize(
    "wrong",
    [
        {"kernel": "linear"},
        {"noise": [1.0, 0.1]},
        {"noise": [0.1, 0.1]},
        {"noise": [0, 1]},
        {"restarts": -1},
        {"max_rows": 0},
        {"kernel_rows": 0},
    ],
)
def test_settings_that_make_no_process_are_refused(wrong) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        GpSettings(**wrong)
