"""A Gaussian process on the property's scale."""

from __future__ import annotations

import warnings
from functools import reduce
from operator import mul
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import (
    RBF,
    ConstantKernel,
    Hyperparameter,
    Kernel,
    Matern,
    WhiteKernel,
)
from sklearn.preprocessing import StandardScaler

from harness.plugin import FitRows, Predictor, Uncertain
from harness_heads.scaling import decode_finite, standardise
from harness_heads.threads import one_thread

if TYPE_CHECKING:
    from harness.plugin import Blocks, Floats, Indices

ROWS_AT_ONCE = 1024
"""Predicted in one go, to bound the memory that the covariances take."""


def fit_gaussian_process(
    rows: FitRows,
    kernel: str,
    length_scales: str,
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
        length_scales: `shared`, one for each of the `blocks`, or one for `each` feature.
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
    prior, part = _prior(shape_of(kernel, length_scales, rows.blocks), noise), slice(kernel_rows)
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


class OnColumns(Kernel):  # type: ignore[misc]
    """A kernel that sees some of the features.

    Args:
        kernel: of these; its parameters are this one's.
        first, end: columns from `first` to before `end`.
    """

    def __init__(self, kernel: Kernel, first: int, end: int) -> None:
        self.kernel, self.first, self.end = kernel, first, end

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Its arguments, and those of the kernel as `kernel__name`."""
        own = {"kernel": self.kernel, "first": self.first, "end": self.end}
        inner = self.kernel.get_params() if deep else {}
        return own | {f"kernel__{name}": value for name, value in inner.items()}

    @property
    def hyperparameters(self) -> list[Hyperparameter]:
        """What is chosen by the likelihood."""
        return [
            Hyperparameter(f"kernel__{one.name}", one.value_type, one.bounds, one.n_elements)
            for one in self.kernel.hyperparameters
        ]

    @property
    def theta(self) -> Floats:
        """Logarithms of the parameters."""
        theta: Floats = self.kernel.theta
        return theta

    @theta.setter
    def theta(self, theta: Floats) -> None:
        self.kernel.theta = theta

    @property
    def bounds(self) -> Floats:
        """Of `theta`."""
        bounds: Floats = self.kernel.bounds
        return bounds

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OnColumns) and self.get_params() == other.get_params()

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, X: Floats, Y: Floats | None = None, eval_gradient: bool = False) -> Any:  # noqa: N803
        """Covariances of rows, with their gradient by `theta` if asked for."""
        return self.kernel(self._of(X), None if Y is None else self._of(Y), eval_gradient)

    def diag(self, X: Floats) -> Floats:  # noqa: N803
        """Variances of rows."""
        variances: Floats = self.kernel.diag(self._of(X))
        return variances

    def is_stationary(self) -> bool:
        """Whether covariances depend on differences alone."""
        return bool(self.kernel.is_stationary())

    def __repr__(self) -> str:
        return f"{self.kernel} of {self.first}:{self.end}"

    def _of(self, rows: Floats) -> Floats:
        return rows[:, self.first : self.end]


def shape_of(name: str, length_scales: str, blocks: Blocks) -> Any:
    """Returns what says how alike rows are, with the lengths that the search starts from.

    Two rows of standardised features are about √(2·width) apart; lengths are in units of √width.
    With a length for each block it is the product of one kernel for each: for `rbf` the same as
    dividing every block by its length.
    """
    width = sum(own for _, own in blocks)
    if length_scales == "each":
        return _kernel(name, width, np.full(width, np.sqrt(width)))
    if length_scales == "shared" or len(blocks) == 1:
        return _kernel(name, width, float(np.sqrt(width)))
    ends = np.cumsum([own for _, own in blocks]).tolist()
    return reduce(
        mul,
        (
            OnColumns(_kernel(name, own, float(np.sqrt(own))), end - own, end)
            for (_, own), end in zip(blocks, ends, strict=True)
        ),
    )


def _kernel(name: str, width: int, start: Any) -> Kernel:
    length = float(np.sqrt(width))
    scale = {"length_scale": start, "length_scale_bounds": (0.01 * length, 100 * length)}
    return RBF(**scale) if name == "rbf" else Matern(**scale, nu=2.5)


def _prior(shape: Any, noise: tuple[float, float]) -> Any:
    """Returns the kernel with the parameters that the search starts from, and their bounds."""
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
