"""Trained ensembles, written as bundles and asked about structures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api.lookup import default_out, path_of, registry_of, results_alone
from harness.api.plans import plan_again
from harness.plugin.executor import LOCAL
from harness.plugin.locations import Locations
from harness.registry.attribution import blaming
from harness.registry.registry import Registry
from harness.remote.executor_session import session_of
from harness.results.store import CHOICES_FILE, Store

if TYPE_CHECKING:
    import pandas as pd

    from harness.apps.predict.bundle import BundleRecord
    from harness.apps.predict.bundle_set import Folders
    from harness.apps.predict.bundle_task import BundleRequest
    from harness.apps.predict.prediction_table import BundleColumns
    from harness.apps.predict.scanner import ScanReport
    from harness.plugin.executor import ExecutorRequest
    from harness.results.records import PlannedCell


def export(
    source: str | Path,
    cell: str,
    folder: Path | str,
    *,
    best: bool = False,
    out: Path | str | None = None,
    data_dir: Path | str | None = None,
    weights_dir: Path | str | None = None,
    plugins: Sequence[Path | str] = (),
) -> BundleRecord:
    """Writes the trained ensemble behind a cell of a leaderboard as a bundle.

    Args:
        source: a benchmark that was run, or a folder with its results.
        cell: the label of a configuration, or conditions such as
            `transfer=pretrained,train_on=Dataset1`, or both; exactly one ensemble must meet them.
            Cells that differ in the test set only share one. Empty text for
            none.
        best: of several ensembles that meet them, take the one that is nearest to its validation
            rows; see `find_best`. Its score is not one to report: those of the test rows are.
        folder: to write; must not be there.
        out: results folder; beside the benchmark file unless given.
        data_dir: folder with datasets, looked in first.
        weights_dir: folder with published weights, looked in first.
        plugins: Python files to load as plugins besides the installed ones.

    Raises:
        BundleError: no cell or several meet the conditions; the weights are not there; or they do
            not predict what is stored.
    """
    from harness.apps.predict.exporter import (
        command_again,
        export,
        find_best,
        find_ensemble,
        find_ensembles,
        parse_cell,
    )

    conditions = parse_cell(cell)
    registry = registry_of(source, plugins=plugins)
    store = Store(path_of(out) or results_alone(source) or default_out(source))
    plan = store.read_plan()
    labels = plan.benchmark.get("labels", {})
    met = (
        find_ensembles(plan.cells, conditions, labels)
        if best
        else [find_ensemble(plan.cells, conditions, labels)]
    )
    planned = plan_again(store, registry, path_of(data_dir), path_of(weights_dir))

    def again(cells: Sequence[PlannedCell]) -> str:
        return command_again(cells, str(source), store.folder / CHOICES_FILE)

    with blaming(registry):
        cells = find_best(planned, store, met, registry, again) if best else met[0]
        return export(planned, store, cells, registry, Path(folder), again(cells))


def predict_files(
    files: Sequence[Path | str],
    bundle: Folders | None = None,
    *,
    properties: Sequence[str] = (),
    level: float | None = None,
    device: str = "cpu",
    weights_dir: Path | str | None = None,
    plugins: Sequence[Path | str] = (),
    executor: ExecutorRequest | None = None,
    observers: Sequence[object] = (),
) -> pd.DataFrame:
    """Predicts properties of the structures in files, or in all files below folders.

    Args:
        files: see `structure_files`.
        bundle: what `export` wrote; one, or several for one table, see `load_bundles`; the default
            one, which may be that which comes with the harness, if none is given.
        properties: what is to be predicted, as `band-gap`; whatever the bundles do, if not given.
        level: of the interval; 0.9 unless given.
        device: `cpu`, `cuda` or `auto`.
        weights_dir: see `load_bundle`; workers of an executor look in their $HARNESS_WEIGHTS.
        plugins: Python files to load as plugins besides the installed ones.
        executor: what predicts, on other machines say; this process unless given.
        observers: objects with observer hooks; they hear of the executor.

    Returns:
        One row per structure, columns as in `prediction_table`.

    Raises:
        DataError: a file is missing, or of no known kind.
        BundleError, PluginError: see `load_bundles`.
    """
    from harness.apps.predict.bundle import read_record
    from harness.apps.predict.bundle_set import lay_out_records, load_named
    from harness.apps.predict.bundle_task import PredictorElsewhere
    from harness.data.structure_files import find_structures, read_structures

    request = _request_of(bundle, properties, level, device, plugins, weights_dir)
    if executor is None or executor.name == LOCAL:
        loaded = load_named(
            request.bundles, request.properties, device, request.plugins, request.weights_dir
        )
        return loaded.predict(read_structures(*map(Path, files)), request.level)
    registry = _observed(request.plugins, observers)
    records = [read_record(folder) for _, folder in request.bundles]
    lay_out_records(request.bundles, records, registry, request.properties)
    found = list(find_structures(*map(Path, files)))
    with session_of(executor, registry) as session:
        assert session is not None
        frame: pd.DataFrame = PredictorElsewhere(request, session).table(found).to_pandas()
        return frame


def _request_of(
    bundle: Folders | None,
    properties: Sequence[str],
    level: float | None,
    device: str,
    plugins: Sequence[Path | str],
    weights_dir: Path | str | None,
) -> BundleRequest:
    """Settles names, the default bundle and the default level.

    Raises:
        BundleError: a name or the level is none.
    """
    from harness.apps.predict.bundle_set import name_folders
    from harness.apps.predict.bundle_task import BundleRequest
    from harness.apps.predict.conformal import DEFAULT_LEVEL, check_level
    from harness.apps.predict.default_bundle import default_bundle

    level = DEFAULT_LEVEL if level is None else level
    check_level(level)
    named = name_folders(default_bundle() if bundle is None else bundle)
    return BundleRequest(
        named,
        level,
        device,
        tuple(map(Path, plugins)),
        tuple(properties),
        path_of(weights_dir),
    )


def _observed(plugins: Sequence[Path], observers: Sequence[object]) -> Registry:
    registry = Registry(plugins)
    for observer in observers:
        registry.add_observer(observer)
    return registry


def scan(
    source: str | Path,
    bundle: Folders | None,
    table: Path | str,
    *,
    properties: Sequence[str] = (),
    level: float | None = None,
    jobs: int = 1,
    device: str = "cpu",
    data_dir: Path | str | None = None,
    weights_dir: Path | str | None = None,
    plugins: Sequence[Path | str] = (),
    executor: ExecutorRequest | None = None,
    observers: Sequence[object] = (),
    progress: Callable[[ScanReport], None] = lambda report: None,
) -> ScanReport:
    """Predicts every structure of a source into a Parquet file; goes on where it was stopped.

    Args:
        source: a dataset; a file or folder; or `mp:` and a query of the Materials Project.
        bundle: what `export` wrote; one, or several for one table, see `load_bundles`; the default
            one, which may be that which comes with the harness, if none is given.
        table: to write; columns as in `prediction_table`.
        properties: what is to be predicted, as `band-gap`; whatever the bundles do, if not given.
        level: of the interval; 0.9 unless given.
        jobs: processes that share the work. More than one needs the usual
            `if __name__ == "__main__"` in a script.
        device: `cpu`, `cuda` or `auto`.
        data_dir: folder with datasets, looked in first.
        weights_dir: see `load_bundle`; workers of an executor look in their $HARNESS_WEIGHTS.
        plugins: Python files to load as plugins besides the installed ones.
        executor: what predicts, on other machines say; the processes of this one unless given.
        observers: objects with observer hooks; they hear of the executor.
        progress: called when a chunk is done.

    Raises:
        HarnessError: see `scanner.scan`; what was done before stays.
    """
    from harness.apps.predict.scan_sources import find_source
    from harness.apps.predict.scanner import scan as carry_out

    request = _request_of(bundle, properties, level, device, plugins, weights_dir)
    registry = _observed(request.plugins, observers)
    found = find_source(str(source), registry, Locations.of(path_of(data_dir)))
    return carry_out(
        found, request, Path(table), registry, jobs=jobs, executor=executor, progress=progress
    )


def layout_of(bundle: Folders, plugins: Sequence[Path | str] = ()) -> tuple[BundleColumns, ...]:
    """Says what the columns of bundles are called in their table.

    Raises:
        BundleError, PluginError: see `load_bundles`.
    """
    from harness.apps.predict.bundle import read_record
    from harness.apps.predict.bundle_set import lay_out_records, name_folders

    folders = name_folders(bundle)
    records = [read_record(folder) for _, folder in folders]
    return lay_out_records(folders, records, Registry([Path(plugin) for plugin in plugins]))
