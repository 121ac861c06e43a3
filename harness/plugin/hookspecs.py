"""Every hook of the harness. Offers are `register_<plural>`, events `<noun>_finished`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pluggy import HookimplMarker, HookspecMarker

if TYPE_CHECKING:
    from harness.plugin.backbone import BackboneSpec
    from harness.plugin.dataset import DatasetSpec
    from harness.plugin.events import (
        CellFinished,
        EncodingProgressed,
        EpochFinished,
        ExecutorStarted,
        SearchProgressed,
        StageFinished,
        StageStarted,
    )
    from harness.plugin.executor import Executor, ExecutorRequest
    from harness.plugin.head import HeadSpec
    from harness.plugin.metric import MetricSpec
    from harness.plugin.property import PropertySpec
    from harness.plugin.protocol import ProtocolSpec
    from harness.plugin.study import StudyRequest
    from harness.plugin.transfer import TransferSpec

hookspec = HookspecMarker("harness")
hookimpl = HookimplMarker("harness")


@hookspec
def register_properties() -> Iterable[PropertySpec]:  # type: ignore[empty-body]
    """Offers properties: what datasets hold values of. Called once at start-up."""


@hookspec
def register_datasets() -> Iterable[DatasetSpec]:  # type: ignore[empty-body]
    """Offers datasets. Called once at start-up; rows are loaded only when they are needed."""


@hookspec
def register_backbones() -> Iterable[BackboneSpec]:  # type: ignore[empty-body]
    """Offers backbones (structure → embedding). Called once at start-up."""


@hookspec
def register_heads() -> Iterable[HeadSpec]:  # type: ignore[empty-body]
    """Offers heads (embedding → target). Called once at start-up."""


@hookspec
def register_transfers() -> Iterable[TransferSpec]:  # type: ignore[empty-body]
    """Offers transfer strategies (lists of stages). Called once at start-up."""


@hookspec
def register_protocols() -> Iterable[ProtocolSpec]:  # type: ignore[empty-body]
    """Offers protocols (split, scale, select, score). Called once at start-up."""


@hookspec
def register_metrics() -> Iterable[MetricSpec]:  # type: ignore[empty-body]
    """Offers metrics. Called once at start-up."""


@hookspec(firstresult=True)
def make_study(request: StudyRequest) -> Any:
    """Makes the Optuna study of a search, or opens it where it is there already.

    Called by one process at a time, for every run of every configuration that is tuned, and again
    for every trial (`request.trial`), whose sampler and pruner are those of the study that is made
    then. The first result that is not None is used: a plugin answers requests for the sampler,
    pruner or storage that it brings, and leaves the others alone.
    """


@hookspec(firstresult=True)
def make_executor(request: ExecutorRequest) -> Executor | None:
    """Makes what carries out stages, trials, encodings and predictions, on other machines say.

    Called once by a command that is given `--executor` with another name than `local`, when there
    is work. The first result that is not None is used: a plugin answers requests for the name that
    it brings, and leaves the others alone.
    """


@hookspec
def executor_started(event: ExecutorStarted) -> None:
    """Called when an executor was made, before it is given work."""


@hookspec
def encoding_progressed(event: EncodingProgressed) -> None:
    """Called while crystals of a dataset are encoded, twice a second at most, and at the end."""


@hookspec
def stage_started(event: StageStarted) -> None:
    """Called when a stage begins to train (not when its artefact is already there)."""


@hookspec
def epoch_finished(event: EpochFinished) -> None:
    """Called after every epoch of a stage, a trial's too, with each member's validation score."""


@hookspec
def stage_finished(event: StageFinished) -> None:
    """Called when a stage's artefact is on disk."""


@hookspec
def cell_finished(event: CellFinished) -> None:
    """Called when the results of a cell, all its runs, are on disk."""


@hookspec
def search_progressed(event: SearchProgressed) -> None:
    """Called while trials of a search are in training, and when some have ended."""
