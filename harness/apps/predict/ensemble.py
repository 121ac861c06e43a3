"""The members of trained stacks, each by itself: crystals → what every run says.

While it is trained, a stack runs all members at once, each on other rows. In prediction they see
the same rows, so a batch is put together once, as for a stack of one, and every member takes it in
turn: less is moved through memory, and nothing is padded. So do the members of other stacks, as
long as their backbones encode crystals alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from harness.errors import BundleError, CannotEncode
from harness.nn.encodings import encode_together, identity, try_encodings
from harness.planning.encoder import encodings_folder
from harness.planning.plugin_modules import build_backbone, build_head, state_of_members
from harness.plugin.backbone import join_encodings
from harness.plugin.locations import Locations
from harness.registry.plugin_calls import using
from harness.scoring.averages import combine
from harness.training.closed_form import ask, fit_head

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.planning.resolved import ResolvedBackbone, ResolvedModel
    from harness.plugin.arrays import Arrays, Floats
    from harness.plugin.backbone import Backbone
    from harness.plugin.crystal import Crystal
    from harness.plugin.head import FitRows
    from harness.plugin.property import PropertySpec
    from harness.plugin.protocol import Scaler
    from harness.scoring.averages import Predicted, Weighting

BATCH_CRYSTALS = 512
"""Most crystals in one forward pass."""

BATCH_BYTES = 2**18
"""Most encoded bytes in one forward pass, but for a single crystal that is larger: what a network
holds in memory at once goes with the size of what it is given."""

Answer = Callable[[Tensor], "Predicted"]
"""Embeddings of one member, rows × width → what it predicts."""


@dataclass(frozen=True, eq=False)
class Stack:
    """Models that share backbone, head and their settings, as they are kept.

    Attributes:
        model: backbone and head, resolved.
        tensors: `backbone.…` and `head.…`, with a leading members axis.
        scalers: one per member.
        fits: of a head in closed form: what each member's is fitted to, anew.
    """

    model: ResolvedModel
    tensors: Mapping[str, Tensor]
    scalers: Sequence[Scaler]
    fits: Sequence[FitRows] | None


@dataclass(frozen=True, eq=False)
class Member:
    """One model: its backbone (a stack of one), and from its embeddings to values."""

    backbone: nn.Module
    answer: Answer
    width: int


@dataclass(frozen=True, eq=False)
class Encoder:
    """What encodes crystals for some of the members.

    Attributes:
        model: of one of them; its backbone encodes, and packs.
        members: positions in the ensemble.
    """

    model: ResolvedModel
    members: tuple[int, ...]

    @property
    def backbone(self) -> Backbone:
        """Encodes, and packs."""
        return self.model.backbone

    def encode(self, crystals: Sequence[Crystal]) -> Sequence[Arrays | CannotEncode]:
        """Returns the encodings of crystals, or why there is none."""
        return _encode(self.model, crystals)


def _encode(
    model: ResolvedBackbone, crystals: Sequence[Crystal]
) -> Sequence[Arrays | CannotEncode]:
    """Encodes crystals, by what a backbone is made of where it is made of others.

    What a fixed backbone that was trained makes, a potential say, is kept in the cache: it is small
    and takes long. That of others would fill the disk in a large scan.
    """
    if model.parts:
        by_part = zip(*(_encode(part, crystals) for part in model.parts), strict=True)
        return [_join(of_crystal) for of_crystal in by_part]
    if not (model.backbone.fixed and model.backbone.offers_weights):
        return encode_together(model.backbone, crystals)
    folder = encodings_folder(Locations.of().cache, model)
    return try_encodings(model.backbone, crystals, folder, workers=1)


def _join(of_parts: Sequence[Arrays | CannotEncode]) -> Arrays | CannotEncode:
    for encoded in of_parts:
        if isinstance(encoded, CannotEncode):
            return encoded
    return join_encodings([own for own in of_parts if not isinstance(own, CannotEncode)])


@dataclass(frozen=True, eq=False)
class Ensemble:
    """All members of one or more stacks, and which of them make up each run.

    Attributes:
        members: stack after stack.
        encoders: of members that share an encoding; every crystal is encoded once for each.
        sources: per run, positions of the members whose mean on the property's scale is what the
            run predicts.
        weighting: how they count in that mean.
        property: what they predict.
        device: where they compute.
    """

    members: tuple[Member, ...]
    encoders: tuple[Encoder, ...]
    sources: tuple[tuple[int, ...], ...]
    weighting: Weighting
    property: PropertySpec
    device: torch.device

    @classmethod
    def of_stacks(
        cls,
        stacks: Sequence[Stack],
        sources: Sequence[Sequence[int]],
        weighting: Weighting,
        spec: PropertySpec,
        device: torch.device,
    ) -> Ensemble:
        """Takes stacks apart.

        Args:
            stacks: what is kept.
            sources: see above; positions are counted through the stacks.
            weighting: see above.
            spec: what they predict.
            device: where to compute.

        Raises:
            BundleError: the tensors are not those of the model.
        """
        members: list[Member] = []
        found: dict[str, tuple[ResolvedModel, list[int]]] = {}
        for stack in stacks:
            _, own = found.setdefault(identity(stack.model.backbone), (stack.model, []))
            own += range(len(members), len(members) + len(stack.scalers))
            members += [_member(stack, number, device) for number in range(len(stack.scalers))]
        return cls(
            tuple(members),
            tuple(Encoder(model, tuple(own)) for model, own in found.values()),
            tuple(tuple(own) for own in sources),
            weighting,
            spec,
            device,
        )

    def predict(
        self, encodings: Sequence[Sequence[Arrays]]
    ) -> tuple[Floats, Floats, list[NDArray[np.float32]]]:
        """Predicts all crystals with all members.

        Args:
            encodings: of every crystal, one per encoder.

        Returns:
            Values in the property's unit, `runs × crystals`, which may be infinite or NaN; their
            stds on its scale, NaN of runs that give none; and each member's embeddings, crystals ×
            width.
        """
        values, stds = np.empty((2, len(self.members), len(encodings)))
        embeddings = [np.empty((len(encodings), one.width), np.float32) for one in self.members]
        for place, encoder in enumerate(self.encoders):
            own = [encoding[place] for encoding in encodings]
            for rows in _batches(own):
                with using(encoder.backbone.pool, f"packing {len(rows)} crystals"):
                    pool = encoder.backbone.pool([own[i] for i in rows], self.device)
                    batch = pool.batch(np.arange(len(rows))[None])
                for number in encoder.members:
                    member = self.members[number]
                    with torch.inference_mode():
                        embedding = member.backbone(batch)
                        values[number, rows], std = member.answer(embedding)
                    stds[number, rows] = np.nan if std is None else std
                    embeddings[number][rows] = embedding[0].cpu().numpy()
        of_runs = [
            combine([(values[m], stds[m]) for m in own], self.property, self.weighting)
            for own in self.sources
        ]
        unknown = np.full(len(encodings), np.nan)
        return (
            np.stack([own for own, _ in of_runs]),
            np.stack([unknown if std is None else std for _, std in of_runs]),
            embeddings,
        )


def _member(stack: Stack, number: int, device: torch.device) -> Member:
    model = stack.model
    backbone = _fill(build_backbone(model, [torch.Generator()]), stack, number, "backbone")
    if stack.fits is None:
        head = _fill(build_head(model, [torch.Generator()]), stack, number, "head")
        answer = _by_network(head.to(device).eval(), stack.scalers[number])
    else:
        answer = _by_fit(model, stack.fits[number])
    return Member(backbone.to(device).eval(), answer, model.backbone.width)


def _fill(module: nn.Module, stack: Stack, member: int, part: str) -> nn.Module:
    """Fills a stack of one with what belongs to a member."""
    _check_shapes(module, stack, part)
    module.load_state_dict(state_of_members(module, stack.tensors, part, [member]))
    return module


def _check_shapes(module: nn.Module, stack: Stack, part: str) -> None:
    """Holds the tensors of a part to the names and shapes of a stack of one, but for its length."""
    stacked, prefix = {name for name, _ in module.named_parameters()}, f"{part}."
    expected = {
        name: (len(stack.scalers), *tensor.shape[1:]) if name in stacked else tuple(tensor.shape)
        for name, tensor in module.state_dict().items()
    }
    found = {
        name.removeprefix(prefix): tuple(tensor.shape)
        for name, tensor in stack.tensors.items()
        if name.startswith(prefix)
    }
    if found != expected:
        name = min(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))
        raise BundleError(
            f"The tensors are not those of the {part} that is named: {prefix}{name} has the shape "
            f"{found.get(name, 'of nothing')}, expected {expected.get(name, 'no such tensor')}."
        )


def _by_network(head: nn.Module, scaler: Scaler) -> Answer:
    def answer(embedding: Tensor) -> Predicted:
        return scaler.decode(head(embedding)[0].cpu().numpy().astype(np.float64)), None

    return answer


def _by_fit(model: ResolvedModel, rows: FitRows) -> Answer:
    predictor = fit_head(model, rows)

    def answer(embedding: Tensor) -> Predicted:
        return ask(model, predictor, embedding[0].cpu().numpy().astype(np.float64))

    return answer


def _batches(encodings: Sequence[Arrays]) -> Iterator[list[int]]:
    """Cuts positions into batches, in order, by number and by size."""
    batch: list[int] = []
    size = 0
    for position, encoding in enumerate(encodings):
        own = sum(array.nbytes for array in encoding.values())
        if batch and (len(batch) == BATCH_CRYSTALS or size + own > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(position)
        size += own
    if batch:
        yield batch
