"""The mean of several models: on the property's scale, equal or by their own precision."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from harness.errors import BenchmarkError
from harness.registry.registry import Registry
from harness.scoring.averages import SMALLEST_STD, combine

KAPPA = Registry().properties["thermal-conductivity"]
ENERGY = Registry().properties["formation-energy"]
SCALES = pytest.mark.parametrize("spec", [KAPPA, ENERGY], ids=["log", "linear"])

values = arrays(np.float64, (3, 4), elements=st.floats(0.1, 1e3))
stds = arrays(np.float64, (3, 4), elements=st.floats(1e-3, 10))


def pairs(values, stds):
    return list(zip(values, stds, strict=True))


def test_one_model_is_what_it_says() -> None:
    own = (np.array([1.0, 2.0]), np.array([0.1, 0.2]))
    assert combine([own], KAPPA, "precision") is own


@SCALES
@given(values, stds)
def test_the_mean_lies_between_the_models(spec, values, stds) -> None:
    for weighting in ("equal", "precision"):
        mean, _ = combine(pairs(values, stds), spec, weighting)
        assert (mean >= values.min(axis=0) * (1 - 1e-9)).all()
        assert (mean <= values.max(axis=0) * (1 + 1e-9)).all()


@SCALES
@given(values, stds, st.permutations(range(3)))
def test_the_order_of_the_models_does_not_matter(spec, values, stds, order) -> None:
    for one, other in zip(
        combine(pairs(values, stds), spec, "precision"),
        combine(pairs(values[order], stds[order]), spec, "precision"),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-9)


@SCALES
@given(values, st.floats(1e-3, 10))
def test_models_that_are_equally_sure_count_alike(spec, values, std) -> None:
    same = np.full(values.shape, std)
    equal, none = combine(pairs(values, same), spec)
    mean, spread = combine(pairs(values, same), spec, "precision")
    np.testing.assert_allclose(mean, equal, rtol=1e-9)
    np.testing.assert_allclose(spread, std, rtol=1e-9)
    assert none is None


def test_it_is_the_product_of_the_densities_to_the_power_of_one_over_their_number() -> None:
    mean, spread = combine(
        [(np.array([1.0]), np.array([0.5])), (np.array([3.0]), np.array([1.5]))],
        ENERGY,
        "precision",
    )
    grid = np.linspace(-10, 12, 200_001)
    log_densities = [-(((grid - m) / s) ** 2) / 2 for m, s in ((1.0, 0.5), (3.0, 1.5))]
    density = np.exp(np.mean(log_densities, axis=0))
    density /= density.sum()
    expected = (grid * density).sum()
    assert mean[0] == pytest.approx(expected, abs=1e-6)
    assert spread[0] == pytest.approx(np.sqrt(((grid - expected) ** 2 * density).sum()), rel=1e-6)


def test_a_model_that_claims_to_be_certain_does_not_make_the_mean_undefined() -> None:
    mean, spread = combine(
        [(np.array([1.0]), np.array([0.0])), (np.array([3.0]), np.array([1.0]))],
        ENERGY,
        "precision",
    )
    assert mean[0] == pytest.approx(1.0, abs=1e-9)
    assert spread[0] == pytest.approx(SMALLEST_STD * np.sqrt(2))


def test_what_a_model_cannot_predict_the_mean_cannot_either() -> None:
    known = np.array([1.0, 2.0]), np.array([0.1, 0.1])
    lost = np.array([np.nan, 2.0]), np.array([0.1, 0.1])
    for weighting in ("equal", "precision"):
        assert np.isnan(combine([known, lost], KAPPA, weighting)[0]).tolist() == [True, False]


def test_a_model_without_a_std_is_refused_by_precision() -> None:
    own = np.array([1.0])
    with pytest.raises(BenchmarkError, match=r"Of 2 members .* 1 give no standard deviation"):
        combine([(own, own), (own, None)], KAPPA, "precision")
