"""What a benchmark names, resolved; and the configurations that are made of it. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.planning.benchmark import Model
from harness.planning.component_ref import ComponentRef
from harness.plugin.backbone import Backbone
from harness.plugin.cell import BASELINE
from harness.plugin.head import HeadSpec
from harness.plugin.protocol import ProtocolRules
from harness.plugin.transfer import Stage, TransferSpec


@dataclass(frozen=True, eq=False)
class ResolvedBackbone:
    """A backbone, resolved.

    Attributes:
        backbone_code: names the code of the backbone; see `code_of_backbone`.
        backbone_settings: all of them, as JSON; it is made again by these.
        backbone_identity: the same, with the digests of files in place of their names.
        parts: the backbones that it is made of.
    """

    backbone_ref: ComponentRef
    backbone: Backbone
    rows_per_second: float
    backbone_code: str
    backbone_settings: Mapping[str, Any]
    backbone_identity: Mapping[str, Any]
    parts: tuple[ResolvedBackbone, ...]


@dataclass(frozen=True, eq=False)
class ResolvedModel(ResolvedBackbone):
    """A backbone with a head, resolved.

    Attributes:
        fits_validation: whether the head is fitted on training and validation rows together.
        settings: all that determines what it is, the code of plugins that are not built in and
            revisions above 1 included; part of the key of its stages.
    """

    head_ref: ComponentRef
    head: HeadSpec
    head_settings: Any
    fits_validation: bool
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class ResolvedTransfer:
    """A transfer strategy, resolved."""

    ref: ComponentRef
    spec: TransferSpec
    settings: Any


@dataclass(frozen=True, eq=False)
class ResolvedProtocol:
    """A protocol, resolved."""

    ref: ComponentRef
    rules: ProtocolRules

    @property
    def label(self) -> str:
        """Name in tables: with its view where it has one, else with its settings."""
        return f"{self.ref.name} [{self.rules.view}]" if self.rules.view else self.ref.label


@dataclass(frozen=True, eq=False)
class Configuration:
    """What makes one row of a table.

    Attributes:
        model: backbone and head.
        transfer: how the model is carried over; none for a baseline.
        target: the dataset that the last stage fits.
        stages: first to last, never none.
        own: the benchmark's entry of the model, where that says how it is trained.
        training: settings of the last stage that a search has found; they go over all others.
    """

    model: ResolvedModel
    transfer: ResolvedTransfer | None
    target: str
    stages: tuple[Stage, ...]
    own: Model | None = None
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def transfer_label(self) -> str:
        """Name and settings of the transfer, as tables show it."""
        return self.transfer.ref.label if self.transfer else BASELINE
