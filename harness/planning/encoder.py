"""Encodes the crystals of datasets, and says which of them cannot be encoded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from harness.errors import CannotEncode, DataError
from harness.nn.encodings import Fault, identity, load_encodings, try_encodings
from harness.plugin.backbone import join_encodings
from harness.plugin.events import EncodingProgressed

if TYPE_CHECKING:
    from harness.data.dataset import Dataset
    from harness.planning.resolved import ResolvedBackbone
    from harness.plugin.arrays import Arrays
    from harness.remote.executor_session import ExecutorSession

Screen = Callable[["Dataset"], Mapping[int, str]]
"""A dataset → why rows of it are to be left out, by position."""

TELL_SECONDS = 0.5
"""Between two events of progress."""


@dataclass(frozen=True)
class Encoder:
    """How crystals become encodings: where these are kept, and by how many processes.

    Attributes:
        cache: the folder in which caches lie.
        jobs: processes that share the work, at most; as many as there are cores where absent.
        tell: hears how far it is, while there is anything to encode.
        elsewhere: what shares the work in place of processes.
    """

    cache: Path
    jobs: int | None = None
    tell: Callable[[EncodingProgressed], None] = field(default=lambda event: None)
    elsewhere: ExecutorSession | None = None

    def encode(self, model: ResolvedBackbone, dataset: Dataset) -> list[Arrays]:
        """Returns the encoding of every row; of a backbone made of others, theirs, joined.

        Raises:
            DataError: the backbone cannot encode one of them; names it.
        """
        if model.parts:
            by_part = [self.encode(part, dataset) for part in model.parts]
            return [join_encodings(of_row) for of_row in zip(*by_part, strict=True)]
        arguments = self._arguments(model, dataset)
        try:
            return list(load_encodings(model.backbone, dataset.crystals, **arguments))
        except CannotEncode:
            refused = self.refusals(model, dataset)
            row = min(refused)
            raise DataError(
                f"The row {dataset.ids[row]!r} of the dataset {dataset.name!r} "
                f"({dataset.formulas[row]}): {refused[row]}."
            ) from None

    def refusals(self, model: ResolvedBackbone, dataset: Dataset) -> Mapping[int, str]:
        """Returns why rows cannot be encoded, by position."""
        if model.parts:
            by_part = [self.refusals(part, dataset) for part in model.parts]
            return {row: why for refused in reversed(by_part) for row, why in refused.items()}
        who = model.backbone_ref.name
        found = try_encodings(model.backbone, dataset.crystals, **self._arguments(model, dataset))
        refused = {row: own for row, own in enumerate(found) if isinstance(own, CannotEncode)}
        return {
            row: f"{who} {'failed' if isinstance(reason, Fault) else 'cannot encode it'}: {reason}"
            for row, reason in refused.items()
        }

    def screen(self, models: Iterable[ResolvedBackbone]) -> list[Screen]:
        """Returns what looks, dataset by dataset, for rows that a model cannot encode.

        Only models that may refuse a crystal are asked. One that can encode nothing of a dataset
        says nothing about its rows: what is wrong with it is told where it is trained.
        """
        encoders = (own for model in models for own in _encoders(model))
        unique = {encodings_of(own): own for own in encoders if own.backbone.refuses}
        return [partial(self._screened, model) for model in unique.values()]

    def _screened(self, model: ResolvedBackbone, dataset: Dataset) -> Mapping[int, str]:
        try:
            refused = self.refusals(model, dataset)
        except Exception:  # no row's doing: it is met again, and told, by the stage
            return {}
        return refused if len(refused) < len(dataset) else {}

    def _arguments(self, model: ResolvedBackbone, dataset: Dataset) -> dict[str, Any]:
        title = f"encoding {dataset.name} by {model.backbone_ref.label}"
        last = monotonic()

        def tell(done: int, total: int) -> None:
            nonlocal last
            if done == total or monotonic() - last > TELL_SECONDS:
                last = monotonic()
                self.tell(EncodingProgressed(title, done, total))

        folder = encodings_folder(self.cache, model)
        return {
            "cache_dir": folder,
            "progress": tell,
            "most": self.jobs,
            "elsewhere": self.elsewhere,
        }


def _encoders(model: ResolvedBackbone) -> Iterator[ResolvedBackbone]:
    """Yields the backbone, or those that it is made of, in the end."""
    if not model.parts:
        yield model
    for part in model.parts:
        yield from _encoders(part)


def encodings_of(model: ResolvedBackbone) -> tuple[str, str]:
    """Names all that the encodings of a model depend on: the backbone's, and its code."""
    return identity(model.backbone), model.backbone_code


def encodings_folder(cache: Path, model: ResolvedBackbone) -> Path:
    """The folder of encodings that were made by the same code.

    Encodings of other code, of this plugin or of another that also says `v1`, lie apart, and so do
    those of another revision, unless the author vouches for the name of the encoding.
    """
    code = model.backbone_code
    if model.backbone.vouched:
        _, mark, revision = code.partition("r")
        code = f"vouched{mark}{revision}"
    return cache / "encodings" / code
