"""The members of a trained stack, each by itself: crystals → κ of every member.

While it is trained, a stack runs all members at once, each on other rows. In prediction they see
the same rows, so a batch is put together once, as for a stack of one, and every member takes it in
turn: less is moved through memory, and nothing is padded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from harness.blame import using
from harness.closed_form import ask, fit_head
from harness.errors import BundleError
from harness.modules import build_backbone, build_head

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.contracts import Arrays, FitRows, Floats, Scaler
    from harness.plan import Model

BATCH_CRYSTALS = 512
"""Most crystals in one forward pass."""

BATCH_BYTES = 2**18
"""Most encoded bytes in one forward pass, but for a single crystal that is larger: what a network
holds in memory at once goes with the size of what it is given."""

Answer = Callable[[Tensor], "Floats"]
"""Embeddings of one member, rows × width → κ in W/(m·K)."""


@dataclass(frozen=True, eq=False)
class Member:
    """One member: its backbone (a stack of one), and from its embeddings to κ in W/(m·K)."""

    backbone: nn.Module
    answer: Answer


@dataclass(frozen=True, eq=False)
class Ensemble:
    """All members of a stack.

    Attributes:
        model: backbone and head, resolved.
        members: one per run.
        device: where they compute.
    """

    model: Model
    members: tuple[Member, ...]
    device: torch.device

    @classmethod
    def of_tensors(
        cls,
        model: Model,
        tensors: Mapping[str, Tensor],
        scalers: Sequence[Scaler],
        fits: Sequence[FitRows] | None,
        device: torch.device,
    ) -> Ensemble:
        """Takes a stack apart.

        Args:
            model: backbone and head.
            tensors: of the stack, as a stage keeps them: `backbone.…` and `head.…`.
            scalers: one per member.
            fits: of a head in closed form: what each member's is fitted to, anew.
            device: where to compute.

        Raises:
            BundleError: the tensors are not those of the model.
        """
        members = []
        for number, scaler in enumerate(scalers):
            backbone = _part(
                build_backbone(model, [torch.Generator()]), tensors, number, "backbone"
            )
            if fits is None:
                head = _part(build_head(model, [torch.Generator()]), tensors, number, "head")
                answer = _by_network(head.to(device).eval(), scaler)
            else:
                answer = _by_fit(model, fits[number])
            members.append(Member(backbone.to(device).eval(), answer))
        return cls(model, tuple(members), device)

    def predict(self, encodings: Sequence[Arrays]) -> tuple[Floats, list[NDArray[np.float32]]]:
        """Predicts all crystals with all members.

        Returns:
            κ in W/(m·K), `members × crystals`, which may be infinite or NaN; and each member's
            embeddings, crystals × width.
        """
        width = self.model.backbone.width
        kappa = np.empty((len(self.members), len(encodings)))
        embeddings = [np.empty((len(encodings), width), np.float32) for _ in self.members]
        for rows in _batches(encodings):
            action = f"packing {len(rows)} crystals"
            with using(self.model.backbone.pool, action):
                pool = self.model.backbone.pool([encodings[i] for i in rows], self.device)
                batch = pool.batch(np.arange(len(rows))[None])
            for number, member in enumerate(self.members):
                with torch.inference_mode():
                    embedding = member.backbone(batch)
                    kappa[number, rows] = member.answer(embedding)
                embeddings[number][rows] = embedding[0].cpu().numpy()
        return kappa, embeddings


def _part(module: nn.Module, tensors: Mapping[str, Tensor], member: int, part: str) -> nn.Module:
    """Fills a stack of one with what belongs to a member; buffers belong to all of them."""
    own = {k.removeprefix(f"{part}."): t for k, t in tensors.items() if k.startswith(f"{part}.")}
    stacked = {name for name, _ in module.named_parameters()}
    state = {k: t[member : member + 1] if k in stacked else t for k, t in own.items()}
    try:
        module.load_state_dict(state)
    except RuntimeError as problem:
        raise BundleError(
            f"The tensors are not those of the {part} that is named: {problem}"
        ) from None
    return module


def _by_network(head: nn.Module, scaler: Scaler) -> Answer:
    def answer(embedding: Tensor) -> Floats:
        return scaler.decode(head(embedding)[0].cpu().numpy().astype(np.float64))

    return answer


def _by_fit(model: Model, rows: FitRows) -> Answer:
    predictor = fit_head(model, rows)

    def answer(embedding: Tensor) -> Floats:
        return ask(model, predictor, embedding[0].cpu().numpy().astype(np.float64))[0]

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
