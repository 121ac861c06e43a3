"""Backbones, structure → embedding: what a plugin hands over."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from harness.errors import CannotEncode, WeightsError
from harness.plugin.function import Function
from harness.plugin.settings import Settings

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from harness.plugin.arrays import Arrays, Indices
    from harness.plugin.crystal import Crystal
    from harness.plugin.locations import Locations
    from harness.plugin.ranges import Space


class Pool(Protocol):
    """The encodings of many crystals, packed for fast assembly of stacked batches."""

    def __len__(self) -> int:
        """Number of crystals in the pool."""

    def batch(self, rows: Indices) -> Any:
        """Assembles one stacked batch.

        Args:
            rows: `members × batch` positions in the pool; −1 marks an empty place, for which the
                module may return any finite embedding.
        """


@dataclass(frozen=True)
class PretrainedWeights:
    """Weights found on disk, not loaded yet.

    Attributes:
        name: the published name of the weights.
        path: the folder or file they lie in.
        digest: sha256 of what determines them.
        seen: name of the data they were trained on, for the overlap report; names, with " + "
            between them, of weights that belong together.
    """

    name: str
    path: Path
    digest: str
    seen: str


AND = " + "
"""Between what several weights have seen. No dataset has a blank in its name."""


def datasets_seen(seen: str) -> list[str]:
    """Returns the names in `PretrainedWeights.seen`."""
    return seen.split(AND)


def join_weights(several: Sequence[PretrainedWeights]) -> PretrainedWeights:
    """Returns one or more weights as one; those of one digest are the same.

    The path is that of the first.
    """
    unique = list({weights.digest: weights for weights in several}.values())
    if len(unique) == 1:
        return unique[0]
    seen = [name for weights in unique if weights.seen for name in datasets_seen(weights.seen)]
    return PretrainedWeights(
        AND.join(dict.fromkeys(weights.name for weights in unique)),
        unique[0].path,
        sha256("\n".join(weights.digest for weights in unique).encode()).hexdigest(),
        AND.join(dict.fromkeys(seen)),
    )


def join_encodings(of_parts: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
    """Returns a crystal's encodings by several backbones as one; see `BackboneSpec.made_of`."""
    return {
        f"{number}/{name}": array
        for number, encoding in enumerate(of_parts)
        for name, array in encoding.items()
    }


def take_encoding(joined: Arrays, number: int) -> dict[str, NDArray[Any]]:
    """Returns the encoding by one of the backbones whose encodings were joined."""
    prefix = f"{number}/"
    return {
        name.removeprefix(prefix): array
        for name, array in joined.items()
        if name.startswith(prefix)
    }


Layers = tuple[tuple[str, ...], ...]
"""Prefixes of parameter names by layer, from the input to the output of a model."""


Blocks = tuple[tuple[str, int], ...]
"""Name and width of consecutive parts of an embedding."""


Invariance = Literal["permutation", "supercell", "motion"]
"""What may be done to a crystal without changing its embedding: sites in another order, several
cells written as one, a rotation together with a shift of the origin."""


class Backbone(ABC):
    """Structure → embedding. Made by `BackboneSpec.make`, holds no parameters itself."""

    width: int
    """Length of the embedding."""

    elements: frozenset[str]
    """Element symbols the backbone knows; rows with others cannot be used."""

    encoding: str
    """Names everything that determines the outcome of `encode`: part of the cache key."""

    blocks: Blocks = ()
    """What the embedding consists of, in order, for heads that treat kinds of numbers apart; the
    widths sum to `width`. Empty: all of it is one block."""

    layers: Layers = ()
    """Prefixes of the names of the module's parameters, layer by layer from crystal to embedding,
    for strategies that treat layers differently. Empty: all of it is one layer."""

    invariances: frozenset[Invariance] = frozenset(get_args(Invariance))
    """What leaves an embedding as it is; the conformance cases hold the backbone to it."""

    cutoff_angstrom: float | None = None
    """The longest bond it sees, in Å; none where it sees no bonds."""

    refuses: bool = True
    """Whether `encode` may raise `CannotEncode` for a crystal of known elements. The crystals of a
    benchmark are then encoded when its rows are decided on, before any split is drawn; where this
    is False, `elements` decides alone, and crystals are encoded when they are first needed."""

    vouched: bool = False
    """Whether the author vouches that `encoding` names all that `encode` depends on, code included.
    Encodings are then kept however the plugin's file changes: raise the version in it when others
    are to be made. Of a plugin that is not built in, any change of its files makes them anew
    otherwise."""

    fixed: bool = False
    """Whether nothing in it is ever trained: its module has no parameters. No transfer strategy is
    crossed with it, and tables say `fixed`. What is in it was trained before, if `find_pretrained`
    finds weights; they are told with what they have seen, and there is nothing to load."""

    @property
    def encoder(self) -> object:
        """The class, or function, that encodes: its name is part of the cache key too."""
        return type(self)

    @property
    def offers_weights(self) -> bool:
        """Whether there are pretrained weights to look for at all."""
        return type(self).find_pretrained is not Backbone.find_pretrained

    @abstractmethod
    def encode(self, crystal: Crystal) -> dict[str, NDArray[Any]]:
        """Turns one crystal into arrays. Cached on disk by content; may run in another process.

        Raises:
            CannotEncode: this crystal cannot be encoded, ever; see there.
        """

    def encode_all(
        self, crystals: Sequence[Crystal]
    ) -> Sequence[dict[str, NDArray[Any]] | CannotEncode]:
        """Turns several crystals into what `encode` makes of each, or into what it raises.

        Worth overriding where most of the time goes into calling small things often. It may raise
        for any one crystal: all are then encoded one by one.
        """
        return [self.encode(crystal) for crystal in crystals]

    def count_isolated(self, encoding: Arrays) -> int:
        """Number of atoms of a crystal that have no neighbour within the cutoff.

        What a backbone says of a crystal that has such atoms is not to be trusted: predictions
        say so. Zero where the backbone sees no bonds.
        """
        return 0

    @abstractmethod
    def pool(self, encodings: Sequence[Arrays], device: torch.device) -> Pool:
        """Packs encodings so that stacked batches are assembled quickly."""

    @abstractmethod
    def build(self, generators: Sequence[torch.Generator]) -> nn.Module:
        """Makes the stacked module, one member per generator, initialised from it alone.

        Its `forward(batch)` returns embeddings, `members × batch × width`. Every parameter has a
        leading members axis, and no member depends on another. A module in it with a method
        `begin_epoch(epoch)` is called before every epoch of training; the first is epoch 0.
        """

    def find_pretrained(self, locations: Locations) -> PretrainedWeights:
        """Finds pretrained weights without loading them.

        Raises:
            WeightsError: this backbone has none, or they are not where they were looked for.
        """
        raise WeightsError(
            f"{type(self).__name__} has no pretrained weights: "
            "use a transfer strategy that starts from 'random'."
        )

    def load_pretrained(self, module: nn.Module, weights: PretrainedWeights) -> Mapping[str, Any]:
        """Copies pretrained weights into every member and verifies them.

        Returns:
            What the record of the stage should say: `tensors`, how many were transferred, and
            whatever the verification found, as JSON-like values.

        Raises:
            WeightsError: a key or shape does not match, or the verification failed.
        """
        raise AssertionError("find_pretrained raises first")


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone by name.

    Attributes:
        name: as it is written in a benchmark file.
        summary: one line for `harness plugins list`.
        settings: typed settings; a benchmark file may set exactly its fields.
        make: settings → backbone; the class itself, say. Heavy imports belong in it, or in the
            module that it is imported from where it is given as text.
        rows_per_second: training rows per second, summed over members, on one CPU core; for the
            estimate of `--plan` only.
        space: what a search may vary.
        revision: of what it computes: to be raised when the same settings give other results, so
            that these are not taken for those of before. Part of keys when above 1.
        made_of: the setting that lists other backbones, as a benchmark file names them, of which
            this one is made. `make` is then given these, made, by label, besides the settings.
            Crystals are encoded by them, each with its own cache; what `encode` returns must be
            their encodings, joined by `join_encodings` in that order.
        weights_in: the setting that names a file of weights, if it is not empty. Planning looks for
            it in the folders for weights first, then where the name leads as a path; `make` is then
            given it as `PretrainedWeights` (None where none is named), after all else. Keys depend
            on what is in it, wherever it lies.
    """

    name: str
    summary: str
    settings: type[Settings] = Settings
    make: Function[Callable[..., Backbone]] = Function()
    rows_per_second: float = 1000.0
    space: Space | None = None
    revision: int = 1
    made_of: str = ""
    weights_in: str = ""
