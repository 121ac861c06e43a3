"""Cases of heads: trained by gradient in stacks, or fitted in closed form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from harness.apps.testing.promises import promise, skip
from harness.apps.testing.properties import LOG_PROPERTY, fitting
from harness.apps.testing.randomness import global_seed
from harness.apps.testing.stacked import SEEDS, Specimen, StackCases
from harness.plugin.head import FitRows, HeadSpec, Predictor, Uncertain
from harness.plugin.protocol import Scaler

if TYPE_CHECKING:
    from torch import nn

    from harness.plugin.arrays import Floats
    from harness.plugin.property import PropertySpec

WIDTH = 16
"""Of the embeddings, unless the cases say otherwise."""

SAMPLES = 64
FEW = 8
ASKED = 20

CONSTANTS: Mapping[str, tuple[float, ...]] = {"log": (0.5, 20.0, 300.0), "linear": (-3.0, 0.0, 7.0)}
"""What a head that is fitted to one value everywhere must about predict, by scale."""

HALF_A_FACTOR = {"log": 0.301, "linear": 1.0}
"""How far off it may be on the scale: a factor of two, or 1 of the unit."""


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

    def test_predictions_are_one_value_per_row(self, spec: HeadSpec) -> None:
        """A fitted head predicts one finite value per row, and says how sure it is, if it can."""
        for what in fitting(spec.needs):
            for rows in (SAMPLES, FEW):
                known = _known(rows, self.width, what)
                self._predict(self._fit(spec, known), _asked(self.width), what)

    def test_blocks_of_the_embeddings_are_no_error(self, spec: HeadSpec) -> None:
        """Embeddings of several blocks, whose widths sum to theirs, can be fitted."""
        known = _known(SAMPLES, self.width)
        for blocks in ((("first", 1), ("rest", self.width - 1)), (("whole", self.width),)):
            self._predict(self._fit(spec, replace(known, blocks=blocks)), _asked(self.width))

    def test_constant_embeddings_are_no_error(self, spec: HeadSpec) -> None:
        """Embeddings that tell nothing, all of them equal, can be fitted and predicted from."""
        rows = _known(FEW, self.width)
        same = replace(rows, embeddings=np.ones_like(rows.embeddings))
        self._predict(self._fit(spec, same), np.ones((ASKED, self.width)))

    def test_predictions_are_in_the_unit_of_the_property(self, spec: HeadSpec) -> None:
        """A head fitted to one value everywhere predicts about that, whatever the scaler."""
        for what in fitting(spec.needs):
            known = _known(SAMPLES, self.width, what)
            for value in CONSTANTS[what.scale]:
                for offset in (0.0, 1.0) if what.is_log else (None,):
                    labels = np.full(SAMPLES, value)
                    rows = replace(known, targets=labels, scaler=Scaler.fit(labels, offset))
                    predicted = self._predict(self._fit(spec, rows), _asked(self.width), what)
                    off = np.abs(what.to_scale(predicted) - what.to_scale(labels[:1]))
                    promise(
                        bool((off < HALF_A_FACTOR[what.scale]).all()),
                        f"about {value:g} {what.unit} where every label is that",
                        f"{predicted.min():.4g} to {predicted.max():.4g}",
                        "return the value itself: decode what was fitted (scaler.decode, or "
                        "rows.property.from_scale)",
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
            and np.array_equal(rows.targets, fresh.targets)
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

    def _predict(
        self, predictor: Predictor, embeddings: Floats, what: PropertySpec = LOG_PROPERTY
    ) -> Floats:
        """Returns what is predicted after checking it, and what is said of its uncertainty."""
        said = predictor(embeddings)
        values = said.median if isinstance(said, Uncertain) else said
        wanted = (len(embeddings),)
        promise(
            isinstance(values, np.ndarray) and values.shape == wanted,
            f"one value per row: an array of shape {wanted}, or Uncertain with one",
            f"{type(values).__name__} of shape {getattr(values, 'shape', None)}",
            "return a numpy array with one number per row",
        )
        promise(
            bool(np.isfinite(values).all() and (values > 0).all() | (not what.is_log)),
            "values are finite, and positive on a log scale",
            f"{values.min():.4g} to {values.max():.4g}",
            "fit `rows.property.to_scale(rows.targets)` and return `from_scale(…)` of it; bound "
            "what is extrapolated",
        )
        if isinstance(said, Uncertain):
            std = np.asarray(said.std)
            promise(
                std.shape == wanted and bool(np.isfinite(std).all() and (std >= 0).all()),
                "`std` has one number per row, finite, zero or more, on the property's scale",
                f"shape {std.shape}, values {std.ravel()[:3].tolist()}",
                "take the root of a variance that rounding has not made negative",
            )
        return values


def _known(rows: int, width: int, what: PropertySpec = LOG_PROPERTY) -> FitRows:
    """Rows whose targets follow the first embedding on the property's scale, with noise."""
    generator = np.random.default_rng(5)
    embeddings = generator.normal(size=(rows, width))
    y = 1 + 0.5 * embeddings[:, 0] + 0.1 * generator.normal(size=rows)
    targets = what.from_scale(y)
    scaler = Scaler.fit(targets, offset=0.0 if what.is_log else None)
    return FitRows(embeddings, targets, scaler, what, seed=7)


def _asked(width: int) -> Floats:
    return np.random.default_rng(6).normal(size=(ASKED, width))
