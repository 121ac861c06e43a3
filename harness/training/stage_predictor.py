"""A trained stage that predicts: loaded once, and its heads in closed form fitted once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from harness.planning.plan import MemberOf
from harness.training.closed_form import ask, fit_head, rows_to_fit
from harness.training.prediction import embed, predict

if TYPE_CHECKING:
    from torch import nn

    from harness.data.dataset import Dataset
    from harness.planning.plan import StageNode
    from harness.plugin.arrays import Floats, Indices
    from harness.plugin.head import Predictor
    from harness.scoring.averages import Predicted
    from harness.training.stage_builder import StageBuilder


class StagePredictor:
    """What the members of a stage predict, for as many datasets as are asked for.

    Args:
        node: the stage.
        model: its modules, with the weights to predict with.
        stage_builder: keeps packed crystals at hand.

    Attributes:
        node: the stage.
    """

    def __init__(self, node: StageNode, model: nn.ModuleDict, stage_builder: StageBuilder) -> None:
        self.node = node
        self._model, self._stage_builder = model, stage_builder
        self._fitted: dict[int, Predictor] = {}

    def fit(self) -> None:
        """Fits the heads in closed form of all members, which is done when they are asked else."""
        for index in range(len(self.node.members)):
            self._head(index)

    def predict(self, dataset: Dataset, asked: Sequence[Indices]) -> list[Predicted]:
        """Returns what every member predicts for the rows it is asked for; nothing if for none.

        Args:
            dataset: whose rows.
            asked: positions in it, for each member.
        """
        node, device = self.node, self._stage_builder.device
        pool = self._stage_builder.pool(dataset, node.model)
        if not node.closed_form:
            scalers = [member.scaler for member in node.members]
            backbone, head = self._model["backbone"], self._model["head"]
            found = predict(backbone, head, pool, asked, scalers, device=device)
            return [(values, None) for values in found]
        tested = embed(self._model["backbone"], pool, asked, device=device)
        return [
            ask(node.model, self._head(index), embeddings)
            if len(embeddings)
            else (embeddings, None)
            for index, embeddings in enumerate(tested)
        ]

    def _head(self, index: int) -> Predictor:
        """The head in closed form of a member; fitted when first asked."""
        if index not in self._fitted:
            rows = rows_to_fit(MemberOf(self.node, index), self._trained[index])
            self._fitted[index] = fit_head(self.node.model, rows)
        return self._fitted[index]

    @cached_property
    def _trained(self) -> list[Floats]:
        """Every member's embeddings of the rows that its head is fitted to."""
        pool = self._stage_builder.pool(self.node.dataset, self.node.model)
        rows = [member.train for member in self.node.members]
        return embed(self._model["backbone"], pool, rows, device=self._stage_builder.device)
