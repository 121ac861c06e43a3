"""A Gaussian process on the property's scale."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Kernel, Matern, WhiteKernel
from sklearn.preprocessing import StandardScaler

from harness.plugin import FitRows, Predictor, Uncertain
from harness_heads.scaling import decode_finite, standardise
from harness_heads.threads import one_thread

if TYPE_CHECKING:
    from harness.plugin import Floats, Indices

ROWS_AT_ONCE = 1024
"""Predicted in one go, to bound the memory that the covariances take."""


def fit_gaussian_process(
    rows: FitRows,
    kernel: str,
    noise: tuple[float, float],
    restarts: int,
    kernel_rows: int,
    max_rows: int,
) -> Predictor:
    """Fits scikit-learn's `GaussianProcessRegressor` to standardised features.

    The rows are sorted and then shuffled by their seed, so that neither the rows that are used nor
    a single bit of the outcome depend on the order in which they come.

    Args:
        rows: training rows.
        kernel: `matern` (ν = 5/2) or `rbf`.
        noise: bounds of the variance of the noise, in units of the variance of the scaled target.
        restarts: of the search for the kernel's parameters, from random ones.
        kernel_rows: rows that the kernel's parameters are chosen on, at most.
        max_rows: rows that are learnt from, at most.

    Returns:
        A predictor of the median and of the standard deviation of a new measurement, its noise
        included.
    """
    used = _shuffled(rows)[:max_rows]
    features = StandardScaler().fit(rows.embeddings[used])
    scaler, targets = standardise(rows.targets[used], rows.property)
    known = features.transform(rows.embeddings[used])
    prior, part = _prior(kernel, known.shape[1], noise), slice(kernel_rows)
    with one_thread():
        chosen = _choose(prior, known[part], targets[part], restarts, rows.seed % 2**32)
        process = GaussianProcessRegressor(chosen, optimizer=None).fit(known, targets)

    def predict(embeddings: Floats) -> Uncertain:
        mean, std = np.empty(len(embeddings)), np.empty(len(embeddings))
        for start in range(0, len(embeddings), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            asked = features.transform(embeddings[part])
            with one_thread():
                mean[part], std[part] = process.predict(asked, return_std=True)
        return Uncertain(decode_finite(scaler, mean), std * scaler.std)

    return predict


def _shuffled(rows: FitRows) -> Indices:
    order = np.lexsort((*rows.embeddings.T, rows.targets))
    return np.random.default_rng(rows.seed).permutation(order)


def _prior(name: str, width: int, noise: tuple[float, float]) -> Any:
    """Returns the kernel with the parameters that the search starts from, and their bounds.

    Two rows of standardised features are about √(2·width) apart; lengths are in units of √width.
    """
    length = float(np.sqrt(width))
    scale = {"length_scale": length, "length_scale_bounds": (0.01 * length, 100 * length)}
    shape: Kernel = RBF(**scale) if name == "rbf" else Matern(**scale, nu=2.5)
    start = float(np.clip(0.1, *noise))
    return ConstantKernel(1.0, (1e-3, 1e3)) * shape + WhiteKernel(start, noise)


def _choose(prior: Any, known: Floats, targets: Floats, restarts: int, seed: int) -> Any:
    """Returns the kernel whose parameters maximise the marginal likelihood."""
    search = GaussianProcessRegressor(prior, n_restarts_optimizer=restarts, random_state=seed)
    with warnings.catch_warnings():
        # a parameter at its bound is an answer: noise that is not there, a feature that is no use
        warnings.filterwarnings(
            "ignore", r"The optimal value found for dimension", ConvergenceWarning
        )
        search.fit(known, targets)
    return search.kernel_
