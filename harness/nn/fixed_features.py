"""Fixed features: a backbone of which nothing is trained, made of one function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.errors import CannotEncode, WeightsError
from harness.plugin.arrays import Arrays
from harness.plugin.backbone import Backbone, Invariance, PretrainedWeights
from harness.registry.plugin_calls import Breach, unwrapped, using

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from harness.plugin.arrays import Indices
    from harness.plugin.crystal import Crystal
    from harness.plugin.locations import Locations


class FixedFeatures(Backbone):
    """Makes a backbone out of a function from a crystal to numbers.

    Descriptors, or the embedding of a model that stays as it is:

        @cache
        def potential():
            return load_my_potential()  # once in each process

        def describe(crystal):
            return potential().embedding(crystal.to_pymatgen()).mean(axis=0)

        def make(settings):
            return FixedFeatures(describe, 64, elements=SYMBOLS[:89], encoding="my-potential-1.0")

    The numbers are cached on disk, and heads see them as they are, in float32: those in closed form
    standardise them on their training rows.
    """

    fixed = True

    def __init__(
        self,
        encode: Callable[[Crystal], ArrayLike],
        width: int,
        *,
        elements: Iterable[str],
        encoding: str,
        weights: PretrainedWeights | None = None,
        vouched: bool = False,
        refuses: bool = True,
        invariances: Iterable[Invariance] = Backbone.invariances,
        cutoff_angstrom: float | None = None,
    ) -> None:
        """Takes what the harness cannot know of the function.

        Args:
            encode: crystal → `width` numbers; may raise `CannotEncode`. A function of a module can
                be sent to other processes; what it loads should be loaded once in each.
            width: how many.
            elements: element symbols that it knows.
            encoding: names everything that determines the numbers; the weights' digest is added.
            weights: what it was trained on before, if it was, for tables and the audit.
            vouched: see `Backbone`.
            refuses: see `Backbone`.
            invariances: see `Backbone`.
            cutoff_angstrom: see `Backbone`.
        """
        self._encode = encode
        self.width = width
        self.elements = frozenset(elements)
        self.encoding = f"{encoding} {weights.digest}" if weights else encoding
        self.weights = weights
        self.vouched = vouched
        self.refuses = refuses
        self.invariances = frozenset(invariances)
        self.cutoff_angstrom = cutoff_angstrom

    @property
    def encoder(self) -> object:
        """The function."""
        return unwrapped(self._encode)

    @property
    def offers_weights(self) -> bool:
        """Whether it was trained before."""
        return self.weights is not None

    def encode(self, crystal: Crystal) -> dict[str, NDArray[Any]]:
        """Returns `features`, of length `width`, in float32.

        Raises:
            CannotEncode: the function refuses the crystal, or gives numbers that are not finite.
        """
        with using(self._encode, f"encoding the crystal {crystal.formula!r}"):
            numbers = np.asarray(self._encode(crystal), dtype=np.float32)
        if numbers.shape != (self.width,):
            raise Breach(
                self._encode,
                f"The features of {crystal.formula} have the shape {numbers.shape}: "
                f"expected ({self.width},).",
            )
        if bad := int((~np.isfinite(numbers)).sum()):
            raise CannotEncode(f"{bad} of {self.width} features are not finite")
        return {"features": numbers}

    def pool(self, encodings: Sequence[Arrays], device: torch.device) -> FeaturePool:
        """Stacks the features of all crystals."""
        features = np.stack([encoding["features"] for encoding in encodings])
        return FeaturePool(torch.as_tensor(features, device=device))

    def build(self, generators: Sequence[torch.Generator]) -> nn.Module:
        """Returns a module without parameters: what the pool assembles are the embeddings."""
        return nn.Identity()

    def find_pretrained(self, locations: Locations) -> PretrainedWeights:
        """Returns the weights that it was made with.

        Raises:
            WeightsError: it was not trained.
        """
        if self.weights is None:
            raise WeightsError("Nothing in these features was trained: there are no weights.")
        return self.weights


class FeaturePool:
    """The features of many crystals.

    Args:
        features: crystals × width.
    """

    def __init__(self, features: Tensor) -> None:
        self._features = features

    def __len__(self) -> int:
        return len(self._features)

    def batch(self, rows: Indices) -> Tensor:
        """Returns the features of the rows, `members × batch × width`; zeros in empty places."""
        index = torch.as_tensor(rows, device=self._features.device)
        return self._features[index.clamp(min=0)] * (index >= 0).unsqueeze(-1)
