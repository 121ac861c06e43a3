"""What plugins hand over: frozen specs, and the interfaces of the objects that these make.

Nothing here imports torch, pandas or pymatgen: a plugin's module stays light at start-up, and does
its heavy imports inside `make`, `load` or `function`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from pydantic import BaseModel, ConfigDict

from harness.errors import PluginError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from optuna.distributions import BaseDistribution
    from torch import nn

    from harness.crystal import Crystal
    from harness.locations import Locations
    from harness.planning.tuning_settings import Tuning

    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]

Arrays = Mapping[str, "NDArray[Any]"]


class Settings(BaseModel):
    """Base of every settings model: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class SearchSpace:
    """What a search may vary among the settings of a backbone, head or transfer strategy.

    Attributes:
        distributions: returns Optuna distributions by parameter name; imports Optuna inside.
        settle: one value per parameter → the settings they stand for. By default a parameter is
            named like the setting it gives; a head may turn `layers` and `width` into `hidden`.
    """

    distributions: Callable[[], Mapping[str, BaseDistribution]]
    settle: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict


@dataclass(frozen=True)
class StudyRequest:
    """What is to be searched for.

    Attributes:
        name: of the study; says which configuration and run, and ends with the digest of all that
            a trial depends on.
        direction: `minimize` or `maximize`.
        seed: for the sampler.
        epochs: most that a trial can report, for pruners that want to know.
        tuning: as the benchmark has it.
        folder: where files of the search may lie.
    """

    name: str
    direction: Literal["minimize", "maximize"]
    seed: int
    epochs: int
    tuning: Tuning
    folder: Path


# --- datasets ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class DatasetSpec:
    """A dataset by name.

    Attributes:
        name: as it is written in a benchmark file.
        card: the TOML card (title, target, unit, temperature, method, licence, citation, …).
        load: returns raw rows: mappings with `id`, the card's target key, `lattice` (3 × 3, Å),
            `species` and `frac_coords`. Called only when the rows are needed. Must be absent
            where `parts` is given.
        parts: names of datasets of which this one is the concatenation, in order. A split of the
            whole then follows the splits of its parts.
    """

    name: str
    card: Path
    load: Callable[[Locations], Iterable[Mapping[str, Any]]] | None = None
    parts: tuple[str, ...] = ()


# --- backbones and heads ----------------------------------------------------------------------


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
        seen: name of the data they were trained on, for the overlap report.
    """

    name: str
    path: Path
    digest: str
    seen: str


Layers = tuple[tuple[str, ...], ...]
"""Prefixes of parameter names by layer, from the input to the output of a model."""

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

    layers: Layers = ()
    """Prefixes of the names of the module's parameters, layer by layer from crystal to embedding,
    for strategies that treat layers differently. Empty: all of it is one layer."""

    invariances: frozenset[Invariance] = frozenset(get_args(Invariance))
    """What leaves an embedding as it is; the conformance cases hold the backbone to it."""

    cutoff_angstrom: float | None = None
    """The longest bond it sees, in Å; none where it sees no bonds."""

    @property
    def offers_weights(self) -> bool:
        """Whether there are pretrained weights to look for at all."""
        return type(self).find_pretrained is not Backbone.find_pretrained

    @abstractmethod
    def encode(self, crystal: Crystal) -> dict[str, NDArray[Any]]:
        """Turns one crystal into arrays. Cached on disk by content; may run in another process."""

    def encode_all(self, crystals: Sequence[Crystal]) -> list[dict[str, NDArray[Any]]]:
        """Turns several crystals into what `encode` makes of each.

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
        leading members axis, and no member depends on another.
        """

    def find_pretrained(self, locations: Locations) -> PretrainedWeights:
        """Finds pretrained weights without loading them.

        Raises:
            WeightsError: this backbone has none, or they are not where they were looked for.
        """
        from harness.errors import WeightsError

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
        make: settings → backbone. Heavy imports belong here.
        rows_per_second: training rows per second, summed over members, on one CPU core; for the
            estimate of `--plan` only.
        space: what a search may vary.
    """

    name: str
    summary: str
    settings: type[Settings]
    make: Callable[[Any], Backbone]
    rows_per_second: float = 1000.0
    space: SearchSpace | None = None


@dataclass(frozen=True, eq=False)
class FitRows:
    """What one member's closed-form head is fitted to.

    Attributes:
        embeddings: training rows × width.
        kappa: labels in W/(m·K), one per row.
        scaler: for heads that work on the scaled target.
        seed: for heads that draw random numbers.
    """

    embeddings: Floats
    kappa: Floats
    scaler: Scaler
    seed: int


@dataclass(frozen=True, eq=False)
class Uncertain:
    """Predictions that say how sure they are.

    Attributes:
        kappa: κ in W/(m·K), one per row; the median of what is thought possible.
        std_log: standard deviation of log10 κ, in decades, one per row.
    """

    kappa: Floats
    std_log: Floats


Predictor = Callable[["Floats"], "Floats | Uncertain"]
"""Embeddings, rows × width → κ in W/(m·K), one per row, with or without its uncertainty."""


@dataclass(frozen=True)
class HeadSpec:
    """A head by name: trained by gradient together with the backbone, or fitted in closed form.

    Attributes:
        name: as it is written in a benchmark file.
        summary: one line for `harness plugins list`.
        settings: typed settings; a benchmark file may set exactly its fields.
        make: (settings, width, generators) → stacked module whose `forward` takes embeddings
            `members × batch × width` to scaled targets `members × batch`.
        fit: instead of `make`: (settings, rows of one member) → predictor. The backbone then stays
            as it starts, and the fit is made anew from its rows whenever it is needed, so it must
            be cheap and depend on nothing else.
        space: what a search may vary.
    """

    name: str
    summary: str
    settings: type[Settings]
    make: Callable[[Any, int, Sequence[torch.Generator]], nn.Module] | None = None
    fit: Callable[[Any, FitRows], Predictor] | None = None
    space: SearchSpace | None = None

    def __post_init__(self) -> None:
        if (self.make is None) == (self.fit is None):
            given = "neither" if self.make is None else "both"
            raise PluginError(
                f"The head {self.name!r} gives {given} of `make` (trained by gradient) and `fit` "
                "(closed form): give exactly one."
            )


# --- transfers --------------------------------------------------------------------------------

Start = Literal["random", "pretrained", "previous"]


@dataclass(frozen=True)
class Target:
    """What a transfer strategy is asked for.

    Attributes:
        dataset: name of the dataset that the last stage must fit.
        layers: of the model, from input to output, as prefixes of parameter names such as
            `backbone.block1`; the last one is `("head",)`.
    """

    dataset: str
    layers: Layers


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that a stage trains differently from the others.

    Attributes:
        prefixes: of parameter names, as in `Target.layers`.
        lr_factor: their learning rate, relative to the stage's.
        asleep_for: share of the stage's epochs, from the first, during which they stay.
        pull: strength α of the penalty α/2·|w − w₀|² towards the weights w₀ that the stage starts
            from (L2-SP; Li et al., arXiv 1802.01483), added to the gradient as `weight_decay` is.
    """

    prefixes: tuple[str, ...]
    lr_factor: float = 1.0
    asleep_for: float = 0.0
    pull: float = 0.0

    def __post_init__(self) -> None:
        if not (self.lr_factor > 0 and 0 <= self.asleep_for < 1 and self.pull >= 0):
            raise PluginError(
                f"{self}: expected lr_factor > 0, 0 ≤ asleep_for < 1 and pull ≥ 0. "
                "Parameters that never move belong in `freeze`."
            )


@dataclass(frozen=True)
class Stage:
    """One fit of a transfer strategy.

    Attributes:
        dataset: the dataset to fit.
        start: where the backbone's weights come from: `random`, `pretrained`, or `previous` (then
            the head continues too).
        training: training settings that differ from the benchmark's in this stage.
        freeze: prefixes of parameter names (`backbone`, `head`, `backbone.block1`, …) that stay.
        groups: parameters that are trained differently from the others; none in two groups.
        alongside: datasets that are fitted at the same time, each with a head of its own, and the
            weight of their loss beside that of `dataset`. Every step takes as many rows of each as
            of `dataset`; an epoch is one pass over `dataset`.
    """

    dataset: str
    start: Start
    training: Mapping[str, Any] = field(default_factory=dict)
    freeze: tuple[str, ...] = ()
    groups: tuple[ParameterGroup, ...] = ()
    alongside: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.start not in get_args(Start):
            raise PluginError(
                f"The stage on {self.dataset!r} starts from {self.start!r}. "
                f"Known: {', '.join(get_args(Start))}."
            )


@dataclass(frozen=True)
class TransferSpec:
    """A transfer strategy by name: it returns its stages and owns no training loop.

    Attributes:
        name: as it is written in a benchmark file.
        summary: one line for `harness plugins list`.
        settings: typed settings; a benchmark file may set exactly its fields.
        stages: (settings, target) → stages, the last of which fits the target's dataset; an empty
            sequence where the strategy makes no sense for that target (its own source, say).
        space: what a search may vary.
    """

    name: str
    summary: str
    settings: type[Settings]
    stages: Callable[[Any, Target], Sequence[Stage]]
    space: SearchSpace | None = None


# --- protocols --------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Split:
    """Row positions of one run.

    Attributes:
        train: rows to fit.
        validation: rows that choose the epoch.
        test: rows to score.
    """

    train: Indices
    validation: Indices
    test: Indices


@dataclass(frozen=True)
class Scaler:
    """Target ↔ what the model is trained on: y = (log10(κ + offset) − mean) / std.

    Attributes:
        offset: 1 in the published protocol, 0 in the strict one; W/(m·K).
        mean: mean of log10(κ + offset) over the rows it was fitted on.
        std: population standard deviation (ddof 0) of the same.
    """

    offset: float
    mean: float
    std: float

    @classmethod
    def fit(cls, kappa: Floats, offset: float) -> Scaler:
        """Fits mean and std; a std of zero (all targets equal) becomes 1."""
        import numpy as np

        y = np.log10(kappa + offset)
        return cls(offset, float(y.mean()), float(y.std()) or 1.0)

    def encode(self, kappa: Floats) -> Floats:
        """κ in W/(m·K) → scaled target."""
        import numpy as np

        return np.asarray((np.log10(kappa + self.offset) - self.mean) / self.std)

    def decode(self, scaled: Floats) -> Floats:
        """Scaled target → κ in W/(m·K)."""
        import numpy as np

        with np.errstate(over="ignore"):
            return np.asarray(10.0 ** (np.asarray(scaled) * self.std + self.mean) - self.offset)


class ProtocolRules(ABC):
    """How rows are split, scaled, selected on and scored."""

    leak_free: bool
    """Promises that no test row has another role. The core then keeps every group (reduced
    formula) on one side, lets source stages leave out groups of test sets, and stops a run that
    would break the promise."""

    selection: str
    """Name of the metric on validation rows that chooses the epoch."""

    offset: float
    """Offset of the scaler's logarithm."""

    scaler_stage: Literal["first", "last"]
    """Which stage of a chain gives the scaler that decodes predictions."""

    view: str = ""
    """Short name of a variant (as `as-published`), shown beside the protocol's name."""

    @abstractmethod
    def split(self, formulas: Sequence[str], run: int, seed: int) -> Split:
        """Splits the rows of one dataset (never a composite one; those follow their parts).

        Args:
            formulas: reduced formula of each row, in file order.
            run: 1, 2, …
            seed: derived from the benchmark's root seed, the dataset's name and the run.
        """

    @abstractmethod
    def scaler_rows(self, split: Split) -> Indices:
        """Row positions on which the scaler is fitted."""

    def labels(self, kappa: Floats, own: Scaler, decoder: Scaler) -> Floats:
        """The labels (W/(m·K)) that training and scoring see; the true ones unless overridden.

        Args:
            kappa: true targets of rows of one (part of a) dataset.
            own: that part's own scaler.
            decoder: the scaler that decodes predictions.
        """
        return kappa


@dataclass(frozen=True)
class ProtocolSpec:
    """A protocol by name.

    Attributes:
        name: as it is written in a benchmark file.
        summary: one line for `harness plugins list`.
        settings: typed settings; a benchmark file may set exactly its fields.
        make: settings → rules.
    """

    name: str
    summary: str
    settings: type[Settings]
    make: Callable[[Any], ProtocolRules]


# --- metrics ----------------------------------------------------------------------------------

KAPPA_FLOOR = 0.01
"""Lowest κ that logarithms of metrics and baselines see, in W/(m·K), for targets and predictions.

Below any dense solid; the lowest κ among the 3,318 AFLOW rows at hand is 0.0115. The published
protocol can predict κ slightly below zero; such a row counts as this value and stays in."""

MAPE_FLOOR = 1.17e-6
"""Lowest |κ| that relative errors divide by, in W/(m·K), in the metric and in the loss: as in
torchmetrics' `MeanAbsolutePercentageError`, with which the published models were made."""


@dataclass(frozen=True)
class MetricSpec:
    """A metric by name.

    Attributes:
        name: as it is written in a benchmark file.
        title: column heading.
        unit: of the value; empty where it has none.
        higher_is_better: its direction.
        function: (targets, predictions), both κ in W/(m·K) and of equal length → value. Gets
            finite numbers only: the core turns a set with a failed prediction into NaN.
    """

    name: str
    title: str
    unit: str
    higher_is_better: bool
    function: Callable[[Floats, Floats], float]
