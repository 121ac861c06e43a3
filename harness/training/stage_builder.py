"""Makes the modules and data of stages, and puts their starting weights in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from harness.planning.encoder import encodings_of
from harness.planning.plugin_modules import build_backbone, build_head
from harness.registry.plugin_calls import call, using
from harness.training.joint_model import join
from harness.training.stack_fit import StackData, StackFit, TaskData

if TYPE_CHECKING:
    from harness.data.dataset import Dataset
    from harness.planning.encoder import Encoder
    from harness.planning.plan import MemberRows, StageNode
    from harness.planning.resolved import ResolvedModel
    from harness.plugin.backbone import Pool
    from harness.results.store import Store


class StageBuilder:
    """Where stages are put together: keeps packed crystals and published weights at hand.

    Args:
        encoder: of crystals.
        store: with the artefacts of earlier stages.
        device: where to train.
    """

    def __init__(self, encoder: Encoder, store: Store, device: torch.device) -> None:
        self.device = device
        self._encoder, self._store = encoder, store
        self._pools: dict[tuple[str, tuple[str, str]], Pool] = {}
        self._joint: tuple[tuple[Any, ...], Pool] | None = None

    def modules(self, node: StageNode, members: Sequence[int] | None = None) -> nn.ModuleDict:
        """Makes the stacked backbone and, unless it is fitted in closed form, the heads.

        Args:
            node: the stage.
            members: positions of those to make; all unless given.
        """
        chosen = node.members if members is None else [node.members[m] for m in members]
        return self._modules_of(node, chosen)

    def _modules_of(self, node: StageNode, members: Sequence[MemberRows]) -> nn.ModuleDict:
        generators = [torch.Generator().manual_seed(member.init_seed) for member in members]
        parts = {"backbone": build_backbone(node.model, generators)}
        if node.model.head.make is not None:
            heads = [build_head(node.model, generators) for _ in node.datasets]
            parts["head"] = heads[0]
            if node.alongside:
                parts["alongside"] = nn.ModuleList(heads[1:])
        return nn.ModuleDict(parts).to(self.device)

    def start_weights(self, node: StageNode, model: nn.ModuleDict) -> Mapping[str, Any]:
        """Puts the starting weights in place; returns what the record says of them."""
        if node.parent is not None:
            tensors, _ = self._store.read_stage(node.parent.key)
            chosen = [member.index for member in node.parents]
            going_on = ("backbone", "head") if node.keeps_head else ("backbone",)
            own = {name: tensors[name] for name in tensors if name.split(".")[0] in going_on}
            everyone = chosen == list(range(len(node.parent.members)))
            for part in going_on:  # heads of other datasets and properties do not
                state = model[part].state_dict()
                stacked = {name for name, _ in model[part].named_parameters()}
                for name in state:
                    given = own[f"{part}.{name}"]
                    state[name] = given[chosen] if name in stacked and not everyone else given
                model[part].load_state_dict(state)
            return {"tensors": len(own)}
        if node.weights is not None and not node.model.backbone.fixed:
            function = node.model.backbone.load_pretrained
            action = f"loading the weights {node.weights.name!r}"
            record: Mapping[str, Any] = call(
                function, model["backbone"], node.weights, action=action, returns=Mapping
            )
            return record
        return {"tensors": 0}

    def joint_model(
        self, nodes: Sequence[StageNode], models: Sequence[nn.ModuleDict]
    ) -> nn.ModuleDict | None:
        """Puts the models of stages side by side; None where they cannot share a stack.

        Args:
            nodes: the stages.
            models: of each, with the weights to begin with.
        """
        if len(models) == 1:
            return models[0]
        whole = self._modules_of(nodes[0], [member for node in nodes for member in node.members])
        return whole if join(whole, models) else None

    def stack_fit(self, nodes: Sequence[StageNode], model: nn.ModuleDict) -> StackFit:
        """Returns the training of stages that share a stack.

        Args:
            nodes: the stages.
            model: of all their members, with the weights to begin with.
        """
        first = nodes[0]
        own = [(node.dataset, node.members) for node in nodes]
        alongside = zip(
            *([(other.dataset, other.members) for other in node.alongside] for node in nodes),
            strict=True,
        )
        return StackFit(
            model,
            StackData(**self._task(own, first.model, ("train", "validation"))),
            [own for node in nodes for own in node.member_trainings],
            selection=first.selection,
            device=self.device,
            freeze=first.freeze,
            alongside=[
                TaskData(**self._task(others, first.model, ("train",))) for others in alongside
            ],
            adapters=first.adapters,
        )

    def _task(
        self,
        parts: Sequence[tuple[Dataset, Sequence[MemberRows]]],
        model: ResolvedModel,
        roles: Sequence[str],
    ) -> dict[str, Any]:
        """What `TaskData` wants to know of a dataset, or of several, one after another."""
        of_digest = {dataset.digest: dataset for dataset, _ in parts}
        datasets = [of_digest[digest] for digest in sorted(of_digest)]
        ends = np.cumsum([len(dataset) for dataset in datasets])
        starts = {data.digest: end - len(data) for data, end in zip(datasets, ends, strict=True)}
        members = [(starts[data.digest], data, member) for data, own in parts for member in own]
        labels = np.full((len(members), ends[-1]), np.nan)
        for row, (start, data, member) in zip(labels, members, strict=True):
            row[start : start + len(data)] = member.labels
        return {
            "pool": self._joint_pool(datasets, model),
            "labels": labels,
            "scalers": [member.scaler for _, _, member in members],
            "seeds": [member.shuffle_seed for _, _, member in members],
            **{role: [start + getattr(own, role) for start, _, own in members] for role in roles},
        }

    def pool(self, dataset: Dataset, model: ResolvedModel) -> Pool:
        """Returns the packed crystals of a dataset."""
        key = (dataset.digest, encodings_of(model))
        if key not in self._pools:
            self._pools[key] = self._packed([dataset], model)
        return self._pools[key]

    def _joint_pool(self, datasets: Sequence[Dataset], model: ResolvedModel) -> Pool:
        """Returns the packed crystals of datasets, one after another; keeps the last one packed."""
        if len(datasets) == 1:
            return self.pool(datasets[0], model)
        key = (tuple(dataset.digest for dataset in datasets), encodings_of(model))
        if self._joint is None or self._joint[0] != key:
            self._joint = (key, self._packed(datasets, model))
        return self._joint[1]

    def _packed(self, datasets: Sequence[Dataset], model: ResolvedModel) -> Pool:
        encodings = [own for data in datasets for own in self._encoder.encode(model, data)]
        names = ", ".join(repr(dataset.name) for dataset in datasets)
        with using(model.backbone.pool, f"packing the crystals of {names}"):
            return model.backbone.pool(encodings, self.device)


def tensors_of(model: nn.ModuleDict) -> dict[str, torch.Tensor]:
    """Returns all tensors of a model, on the CPU."""
    state = model.state_dict()
    return {key: tensor.detach().cpu().clone().contiguous() for key, tensor in state.items()}
