"""Baselines: hand-worked numbers, optimality, twins, and what the mirrored data say."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pydantic import ValidationError

from harness.plugin import Crystal, FitRows, Scaler
from harness.registry.registry import Registry
from harness.scoring.scores import measure
from harness_baselines import constant, register_heads
from harness_composition import CompositionSettings, register_backbones
from harness_metrics import metrics
from harness_properties import KAPPA

Floats = NDArray[np.float64]

steady = settings(deadline=None, derandomize=True, max_examples=40)

HEADS = {spec.name: spec for spec in register_heads()}
METRICS = Registry().metrics_of(KAPPA.name)
OPTIMISED = ("mape", "mae", "rmse", "r2", "mae-log", "rmse-log", "r2-log")

many_kappa = arrays(np.float64, st.integers(1, 30), elements=st.floats(0.02, 3000))


def fit(
    head: str, embeddings: Any, kappa: Any, seed: int = 0, **settings_of_head: Any
) -> Callable[[Floats], Any]:
    kappa = np.asarray(kappa, dtype=np.float64)
    rows = FitRows(np.asarray(embeddings, dtype=np.float64), kappa, Scaler(0, 0, 1), KAPPA, seed)
    spec = HEADS[head]
    assert spec.make is None and spec.fit is not None
    return spec.fit(spec.settings(**settings_of_head), rows)


def constant_of(head: str, kappa: Any, **settings_of_head: Any) -> float:
    predicted = fit(head, np.zeros((len(kappa), 2)), kappa, **settings_of_head)(np.ones((3, 2)))
    assert predicted.shape == (3,) and np.ptp(predicted) == 0
    return float(predicted[0])


# --- constants --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("mape", 1),  # weights 1, 0.1, 0.01, 0.001: the first holds more than half
        ("mae", 55),
        ("mae-log", 10**1.5),
        ("rmse-log", 10**1.5),
        ("r2-log", 10**1.5),
    ],
)
def test_hand_worked_constants(metric: str, expected: float) -> None:
    found = constant_of("best-constant", [1000, 10, 1, 100], metric=metric)
    assert found == pytest.approx(expected)


def test_mape_weighs_by_the_inverse() -> None:
    # weights 1/2, 1/3, 1/4, 1/5: half of 77/60 is reached at the second
    assert constant_of("best-constant", [5, 3, 2, 4], metric="mape") == 3


def test_the_mean_of_the_logarithm_is_the_geometric_mean() -> None:
    assert constant_of("mean-log", [1, 1, 1000]) == pytest.approx(10)


@pytest.mark.parametrize("metric", OPTIMISED)
@steady
@given(kappa=many_kappa, others=arrays(np.float64, 20, elements=st.floats(0.011, 4000)))
def test_no_other_constant_is_better(metric: str, kappa: Floats, others: Floats) -> None:
    spec = METRICS[metric]

    def loss(value: float) -> float:
        score = measure(spec, kappa, np.full(len(kappa), value))
        return -score if spec.higher_is_better else score

    best = constant_of("best-constant", kappa, metric=metric)
    if np.isnan(loss(best)):  # R² of equal targets
        return
    rivals = np.concatenate([kappa, others, best * np.array([0.99, 0.9999, 1.0001, 1.01])])
    assert all(
        loss(best) <= loss(rival) * (1 + np.sign(loss(rival)) * 1e-9) + 1e-9 for rival in rivals
    )


def test_a_metric_without_a_known_best_constant_is_refused() -> None:
    with pytest.raises(ValidationError, match="'rmse', 'r2', 'mae-log', 'rmse-log' or 'r2-log'"):
        HEADS["best-constant"].settings.model_validate({"metric": "spearman"})
    with pytest.raises(ValueError, match="spearman"):
        constant.best_constant(np.ones(3), "spearman", KAPPA)


@pytest.mark.parametrize("metric", OPTIMISED)
def test_distorted_labels_below_zero_do_no_harm(metric: str) -> None:
    assert np.isfinite(constant_of("best-constant", [-0.2, 0, 5, 7], metric=metric))


# --- nearest neighbour ------------------------------------------------------------------------

NACL, KCL, LICL = [0.5, 0.5, 0, 0], [0.5, 0, 0.5, 0], [0.5, 0, 0, 0.5]  # Cl Na K Li


def test_a_twin_comes_first() -> None:
    predict = fit("nearest", [KCL, NACL, LICL], [5, 7, 11])
    assert predict(np.array([NACL, LICL])) == pytest.approx([7, 11])


def test_several_twins_give_their_geometric_mean() -> None:
    predict = fit("nearest", [NACL, KCL, NACL], [1, 30, 100])
    assert predict(np.array([NACL])) == pytest.approx([10])


def test_neighbours_at_one_distance_share() -> None:
    predict = fit("nearest", [KCL, LICL], [2, 8])
    assert predict(np.array([NACL])) == pytest.approx([4])


def test_without_a_twin_the_nearest_composition_counts() -> None:
    predict = fit("nearest", [[0.4, 0.6, 0, 0], KCL], [3, 9])
    assert predict(np.array([NACL])) == pytest.approx([3])


def test_the_distance_is_a_setting() -> None:
    embeddings, asked = [[3.0, 0.0], [2.0, 2.0]], np.zeros((1, 2))
    assert fit("nearest", embeddings, [3, 9])(asked) == pytest.approx([3])
    assert fit("nearest", embeddings, [3, 9], distance="euclidean")(asked) == pytest.approx([9])


def test_standardising_makes_units_equal() -> None:
    embeddings = [[0.0, 1 / 3], [1000.0, 1 / 3], [0.0, 1 / 3]]
    asked = np.array([[1000.0, 1.0]])
    kilo = fit("nearest", embeddings, [2, 5, 2], standardise=True)
    unit = fit("nearest", np.array(embeddings) / [1000, 1], [2, 5, 2], standardise=True)
    assert kilo(asked) == unit(asked / [1000, 1]) == pytest.approx([5])


def test_many_rows_are_predicted_in_parts() -> None:
    predict = fit("nearest", [[0.0], [1.0]], [2, 3])
    asked = np.tile([[0.1], [0.9]], (1500, 1))
    assert predict(asked) == pytest.approx(np.tile([2, 3], 1500))
    assert predict(np.empty((0, 1))).shape == (0,)


@st.composite
def compositions(draw: st.DrawFn, rows: int) -> Floats:
    counts = draw(arrays(np.int64, (rows, 4), elements=st.integers(0, 3)))
    counts[:, 0] += 1
    fractions = counts / counts.sum(axis=1, keepdims=True)
    return fractions.astype(np.float32).astype(np.float64)  # as they come from the stack


@steady
@given(data=st.data(), rng=st.randoms(use_true_random=False), standardise=st.booleans())
def test_the_order_of_rows_does_not_matter(data: st.DataObject, rng, standardise: bool) -> None:
    kappa = data.draw(many_kappa)
    embeddings = data.draw(compositions(len(kappa)))
    asked = data.draw(compositions(8))
    order = rng.sample(range(len(kappa)), len(kappa))
    expected = fit("nearest", embeddings, kappa, standardise=standardise)(asked)
    found = fit("nearest", embeddings[order], kappa[order], standardise=standardise)(asked)
    assert found == pytest.approx(expected, rel=1e-9)


@steady
@given(data=st.data(), standardise=st.booleans())
def test_known_rows_return_the_geometric_mean_of_their_twins(
    data: st.DataObject, standardise: bool
) -> None:
    kappa = data.draw(many_kappa)
    embeddings = data.draw(compositions(len(kappa)))
    twins = (embeddings[:, None] == embeddings[None]).all(axis=2)
    expected = [10 ** np.log10(kappa[own]).mean() for own in twins]
    found = fit("nearest", embeddings, kappa, standardise=standardise)(embeddings)
    assert found == pytest.approx(np.array(expected), rel=1e-9)


# --- random forest ----------------------------------------------------------------------------


def test_a_forest_depends_on_its_seed_alone() -> None:
    rng = np.random.default_rng(0)
    embeddings, kappa = rng.random((40, 5)), rng.random(40) + 0.1
    first, again, other = (
        fit("random-forest", embeddings, kappa, seed, n_estimators=5)(embeddings)
        for seed in (2**40 + 1, 2**40 + 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_forest_averages_logarithms() -> None:
    kappa = [1.0, 100.0] * 50
    predict = fit("random-forest", np.zeros((100, 1)), kappa, n_estimators=400)
    assert predict(np.zeros((1, 1))) == pytest.approx([10], rel=0.05)


# --- on the mirrored data ---------------------------------------------------------------------


def read(shared: Path, name: str) -> tuple[list[Crystal], Floats]:
    with gzip.open(shared / "data" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    crystals = [
        Crystal(np.array(r["lattice"]), tuple(r["species"]), np.array(r["frac_coords"]))
        for r in rows
    ]
    return crystals, np.array([r["kappa"] for r in rows])


def embed(crystals: list[Crystal], features: str) -> Floats:
    (spec,) = register_backbones()
    backbone = spec.make(CompositionSettings.model_validate({"features": features}))
    return np.array([backbone.encode(c)["features"] for c in crystals], dtype=np.float64)


def test_the_best_constant_of_dataset1(shared: Path) -> None:
    _, kappa = read(shared, "Dataset1")
    best = constant_of("best-constant", kappa, metric="mape")
    assert best == pytest.approx(2.1, abs=0.05)
    assert metrics.mape(kappa, np.full(len(kappa), best)) == pytest.approx(0.81, abs=0.005)
    assert np.median(kappa) == pytest.approx(19.9, abs=0.05)


def test_copying_the_twin_in_dataset1(shared: Path) -> None:
    """26 pairs, each copied both ways: what polymorphs across the split are worth."""
    crystals, kappa = read(shared, "Dataset1")
    formulas = np.array([c.formula for c in crystals])
    embeddings = embed(crystals, "fractions")
    own = [i for i, formula in enumerate(formulas) if (formulas == formula).sum() > 1]
    assert len(own) == 2 * 26
    copied = []
    for i in own:
        others = np.arange(len(kappa)) != i
        copied.append(fit("nearest", embeddings[others], kappa[others])(embeddings[[i]])[0])
    assert metrics.mape(kappa[own], np.array(copied)) == pytest.approx(0.23, abs=0.005)


def test_a_forest_learns_dataset2_without_twins(shared: Path) -> None:
    crystals, kappa = read(shared, "Dataset2")
    embeddings = embed(crystals, "elements")
    formulas = sorted({c.formula for c in crystals})
    fold = np.array([formulas.index(c.formula) % 5 for c in crystals])

    def error(head: str) -> float:
        predicted = np.empty(len(kappa))
        for tested in (fold == k for k in range(5)):
            predict = fit(head, embeddings[~tested], kappa[~tested], seed=1, **sizes[head])
            predicted[tested] = predict(embeddings[tested])
        return metrics.mae(np.log10(kappa), np.log10(predicted))

    sizes: dict[str, dict[str, Any]] = {"random-forest": {"n_estimators": 30}, "mean-log": {}}
    assert error("random-forest") < 0.8 * error("mean-log")
