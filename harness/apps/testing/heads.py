"""Cases of heads: trained by gradient in stacks, or fitted in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.apps.testing.promises import promise, skip
from harness.apps.testing.randomness import global_seed
from harness.apps.testing.stacked import SEEDS, Specimen, StackCases
from harness.plugin.head import FitRows, HeadSpec, Predictor, Uncertain
from harness.plugin.protocol import Scaler

if TYPE_CHECKING:
    from torch import nn

    from harness.plugin.arrays import Floats

WIDTH = 16
"""Of the embeddings, unless the cases say otherwise."""

SAMPLES = 64
FEW = 8
ASKED = 20

CONSTANTS_W_PER_M_K = (0.5, 20.0, 300.0)
"""What a head that is fitted to one κ everywhere must about predict."""


class HeadSpecimen(Specimen):
    """A head trained by gradient, with random embeddings."""

    def __init__(self, spec: HeadSpec, settings: object, width: int) -> None:
        import torch

        from harness.apps.testing.modules import RowPool

        self._spec, self._settings, self._width = spec, settings, width
        self.samples, self.tail = SAMPLES, ()
        drawn = torch.randn(SAMPLES, width, generator=torch.Generator().manual_seed(0))
        self.pool = RowPool(drawn)

    def build(self, seeds: Sequence[int]) -> nn.Module:
        """Makes a stack."""
        from harness.apps.testing.modules import generators

        assert self._spec.make is not None
        return self._spec.make(self._settings, self._width, generators(seeds))

    def whole(self, module: nn.Module, seeds: Sequence[int]) -> tuple[nn.Module, nn.Module]:
        """Puts nothing before the head: the rows of the pool are the embeddings."""
        from torch import nn

        return nn.Identity(), module


class HeadCases(StackCases):
    """What a head promises. A head of one sort skips the cases of the other.

    Attributes:
        width: of the embeddings.
    """

    spec_type = HeadSpec
    width = WIDTH

    def specimen(self, spec: HeadSpec) -> HeadSpecimen:
        """Makes random embeddings for a head trained by gradient."""
        if spec.make is None:
            skip("the head is fitted in closed form, not trained by gradient")
        return HeadSpecimen(spec, self.made_settings(spec), self.width)

    def test_embeddings_get_gradients(self, spec: HeadSpec) -> None:
        """The backbone learns through the head: embeddings have gradients."""
        import torch

        thing = self.specimen(spec)
        module = thing.build(SEEDS[:1]).eval()
        embeddings = torch.randn(1, FEW, self.width, generator=torch.Generator().manual_seed(1))
        output = module(embeddings.requires_grad_(True))
        reached = False
        if output.requires_grad:
            (gradient,) = torch.autograd.grad(output.sum(), embeddings, materialize_grads=True)
            reached = bool(gradient.isfinite().all() and (gradient != 0).any())
        promise(
            reached,
            "gradients reach the embeddings, finite and not all zero",
            "none, zeros or NaN",
            "do not detach the embeddings; look for saturated activations",
        )

    def test_other_widths_work(self, spec: HeadSpec) -> None:
        """The head takes embeddings of any width."""
        settings = self.specimen(spec) and self.made_settings(spec)
        for width in (1, 5, 2 * self.width):
            thing = HeadSpecimen(spec, settings, width)
            shape = tuple(thing.output(thing.build(SEEDS), thing.rows(len(SEEDS))).shape)
            promise(
                shape[:1] == (len(SEEDS),) and len(shape) == 2,
                "scaled targets, members × batch, for any width of the embedding",
                f"shape {shape} for width {width}",
                "build the head from the `width` that `make` is given",
            )

    def test_predictions_are_one_kappa_per_row(self, spec: HeadSpec) -> None:
        """A fitted head predicts one positive, finite κ per row, and says how sure it is, if."""
        for known in (_known(SAMPLES, self.width), _known(FEW, self.width)):
            self._predict(self._fit(spec, known), _asked(self.width))

    def test_constant_embeddings_are_no_error(self, spec: HeadSpec) -> None:
        """Embeddings that tell nothing, all of them equal, can be fitted and predicted from."""
        rows = _known(FEW, self.width)
        same = FitRows(np.ones_like(rows.embeddings), rows.kappa, rows.scaler, rows.seed)
        self._predict(self._fit(spec, same), np.ones((ASKED, self.width)))

    def test_predictions_are_in_watts_per_metre_kelvin(self, spec: HeadSpec) -> None:
        """A head fitted to one κ everywhere predicts about that κ, whatever the scaler."""
        known = _known(SAMPLES, self.width)
        for kappa in CONSTANTS_W_PER_M_K:
            for offset in (0.0, 1.0):
                labels = np.full(SAMPLES, kappa)
                rows = FitRows(known.embeddings, labels, Scaler.fit(labels, offset), known.seed)
                predicted = self._predict(self._fit(spec, rows), _asked(self.width))
                ratio = predicted / kappa
                promise(
                    bool((ratio > 0.5).all() and (ratio < 2).all()),
                    f"about {kappa:g} W/(m·K), within a factor of 2, where every label is that",
                    f"{predicted.min():.4g} to {predicted.max():.4g}",
                    "return κ itself: decode what was fitted (scaler.decode, or 10 ** …)",
                )

    def test_same_rows_give_the_same_fit(self, spec: HeadSpec) -> None:
        """The fit depends on its rows and their seed alone."""
        with global_seed(1):
            first = self._predict(self._fit(spec, _known(SAMPLES, self.width)), _asked(self.width))
        with global_seed(2):
            second = self._predict(self._fit(spec, _known(SAMPLES, self.width)), _asked(self.width))
        promise(
            np.array_equal(first, second),
            "the same rows give the same predictions: the fit is made anew whenever it is needed",
            f"they differ by up to a factor {np.max(np.abs(first / second)):.6g}",
            "draw random numbers from a generator seeded with `rows.seed`",
        )

    def test_fit_leaves_its_rows_alone(self, spec: HeadSpec) -> None:
        """Neither fitting nor predicting changes the arrays that it is given."""
        rows, asked = _known(SAMPLES, self.width), _asked(self.width)
        self._predict(self._fit(spec, rows), asked)
        fresh = _known(SAMPLES, self.width)
        promise(
            np.array_equal(rows.embeddings, fresh.embeddings)
            and np.array_equal(rows.kappa, fresh.kappa)
            and np.array_equal(asked, _asked(self.width)),
            "embeddings and labels stay as they are",
            "one of them was changed",
            "work on copies (`x = x - mean`, not `x -= mean`)",
        )

    def test_asked_rows_do_not_matter_to_one_another(self, spec: HeadSpec) -> None:
        """A row's prediction is the same in another order, and alone."""
        predictor, asked = self._fit(spec, _known(SAMPLES, self.width)), _asked(self.width)
        together = self._predict(predictor, asked)
        backwards = self._predict(predictor, asked[::-1].copy())[::-1]
        alone = self._predict(predictor, asked[:1].copy())
        promise(
            bool(np.allclose(together, backwards, rtol=1e-6))
            and bool(np.allclose(together[:1], alone, rtol=1e-6)),
            "a row's prediction does not depend on what else is asked",
            f"{together[0]:.6g}, in another order {backwards[0]:.6g}, alone {alone[0]:.6g}",
            "scale with what was learnt from the training rows, never from the asked ones",
        )

    def _fit(self, spec: HeadSpec, rows: FitRows) -> Predictor:
        if spec.fit is None:
            skip("the head is trained by gradient, not fitted in closed form")
        return spec.fit(self.made_settings(spec), rows)

    def _predict(self, predictor: Predictor, embeddings: Floats) -> Floats:
        """Returns κ after checking it, and what is said about its uncertainty."""
        said = predictor(embeddings)
        kappa = said.kappa if isinstance(said, Uncertain) else said
        wanted = (len(embeddings),)
        promise(
            isinstance(kappa, np.ndarray) and kappa.shape == wanted,
            f"one κ per row: an array of shape {wanted}, or Uncertain with one",
            f"{type(kappa).__name__} of shape {getattr(kappa, 'shape', None)}",
            "return a numpy array with one number per row",
        )
        promise(
            bool(np.isfinite(kappa).all() and (kappa > 0).all()),
            "κ is positive and finite",
            f"{kappa.min():.4g} to {kappa.max():.4g}",
            "fit log10 κ and return 10 ** …; bound what is extrapolated",
        )
        if isinstance(said, Uncertain):
            std = np.asarray(said.std_log)
            promise(
                std.shape == wanted and bool(np.isfinite(std).all() and (std >= 0).all()),
                "`std_log` has one number per row, finite, zero or more, in decades",
                f"shape {std.shape}, values {std.ravel()[:3].tolist()}",
                "take the root of a variance that rounding has not made negative",
            )
        return kappa


def _known(rows: int, width: int) -> FitRows:
    """Rows whose κ follows the first embedding, with noise."""
    generator = np.random.default_rng(5)
    embeddings = generator.normal(size=(rows, width))
    kappa = 10 ** (1 + 0.5 * embeddings[:, 0] + 0.1 * generator.normal(size=rows))
    return FitRows(embeddings, kappa, Scaler.fit(kappa, offset=0.0), seed=7)


def _asked(width: int) -> Floats:
    return np.random.default_rng(6).normal(size=(ASKED, width))
