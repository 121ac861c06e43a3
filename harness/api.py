"""The harness in a notebook: the same things that the command line does, as functions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.benchmark import BENCHMARK_FILE, Benchmark, check_settings, find_benchmark
from harness.blame import blaming
from harness.errors import BenchmarkError, StoreError, did_you_mean
from harness.files import make_folder
from harness.leaderboard import Leaderboard
from harness.library import Library
from harness.locations import Locations, shipped
from harness.markdown import render_markdown
from harness.merging import merge
from harness.pivot import Layout, Pivot, pivot
from harness.plan import Plan, Scoring, optional
from harness.planner import plan
from harness.published import read_published
from harness.registry import Registry
from harness.scores import DEFAULT
from harness.store import PLAN_FILE, Store
from harness.submissions import (
    SUBMISSIONS,
    Submission,
    check_complete,
    check_files,
    check_schema,
    copy_whole,
    pack,
)
from harness.workers import workers

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from harness.bundle import BundleRecord
    from harness.comparison import Comparison
    from harness.dataset import Dataset
    from harness.scanner import ScanReport
    from harness.tuning import Tuner, TuningProgress
    from harness.verification import Verification

CHOICES_FILE = "best.toml"
"""In a results folder: the benchmark with the settings that a search has chosen."""

Source = str | Path | Benchmark
"""A benchmark: the path of its file, a name, or made in Python."""


def load_dataset(
    name: str, *, data_dir: Path | str | None = None, plugins: Sequence[Path | str] = ()
) -> Dataset:
    """Loads a dataset by name; `.frame()` gives its rows as a pandas frame.

    Raises:
        HarnessError: no plugin offers it, or its rows are not to be had.
    """
    registry = Registry([Path(plugin) for plugin in plugins])
    with blaming(registry):
        return Library(registry, Locations.of(_path(data_dir)))[name]


def default_out(source: Source) -> Path:
    """Returns the folder in which results of a benchmark lie: beside its `benchmark.toml`.

    For a file `mine.toml`: the folder `mine` beside it. For a benchmark that is shipped inside the
    package, or was made in Python: `leaderboards/<name>` in the current folder.
    """
    if isinstance(source, Benchmark):
        return Path("leaderboards") / source.name
    path = find_benchmark(source).resolve()
    if path.name != BENCHMARK_FILE:
        return path.with_suffix("")
    inside_package = path.is_relative_to(shipped("leaderboards").resolve())
    in_checkout = path.is_relative_to(Path.cwd() / "leaderboards")
    if inside_package and not in_checkout:
        return Path("leaderboards") / path.parent.name
    return path.parent


def prepare(
    source: Source,
    *,
    overrides: Sequence[str] = (),
    data_dir: Path | None = None,
    weights_dir: Path | None = None,
    limit: int | None = None,
    strict_data: bool = False,
    registry: Registry | None = None,
) -> Plan:
    """Reads a benchmark and lays out what it would do, without training anything."""
    registry = registry or Registry()
    with blaming(registry):
        return plan(
            _load(source, overrides),
            registry,
            Locations.of(data_dir, weights_dir),
            limit=limit,
            strict_data=strict_data,
        )


def _load(source: Source, overrides: Sequence[str] = ()) -> Benchmark:
    if not isinstance(source, Benchmark):
        return Benchmark.load(source, overrides)
    if overrides:
        raise BenchmarkError(
            "Overrides are for benchmark files; change the Benchmark itself, as by "
            "benchmark.model_copy(update={...})."
        )
    return source


def run(
    source: Source,
    *,
    out: Path | str | None = None,
    overrides: Sequence[str] = (),
    data_dir: Path | str | None = None,
    weights_dir: Path | str | None = None,
    limit: int | None = None,
    strict_data: bool = False,
    plugins: Sequence[Path | str] = (),
    observers: Sequence[object] = (),
    jobs: int = 1,
    tell: Callable[[TuningProgress], None] = lambda progress: None,
) -> Leaderboard:
    """Trains and scores whatever of a benchmark is not on disk yet, and writes its tables.

    A benchmark that says how to tune is searched first; see `tune`.

    Args:
        source: path or name of the benchmark, or a `Benchmark` made in Python.
        out: results folder; beside the benchmark file unless given. A dry run (`limit`) goes to a
            sub-folder of its own.
        overrides: `key=value` changes to the file, as `training.epochs=10`.
        data_dir: folder with datasets, looked in first.
        weights_dir: folder with published weights, looked in first.
        limit: keep at most that many rows of each dataset.
        strict_data: refuse datasets with unusable rows.
        plugins: Python files to load as plugins besides the installed ones.
        observers: objects with observer hooks (`@hookimpl`); they hear of this process's stages.
        jobs: processes that share the work, stage by stage. More than one needs the usual
            `if __name__ == "__main__"` in a script.
        tell: hears of the progress of a search.

    Returns:
        The leaderboard; `.runs` and `.summary()` are pandas frames.

    Raises:
        HarnessError: see its subclasses; results that were complete stay on disk. What a plugin
            raises becomes a `PluginError` that names it, with file and line.
    """
    from harness.engine import complete_metrics, execute, pending_stages

    published = published_cells(source, overrides)
    folder = _path(out) or default_out(source)
    store = Store.create(folder / f"limit-{limit}" if limit else folder)
    options: dict[str, Any] = {
        "overrides": tuple(overrides),
        "data_dir": _path(data_dir),
        "weights_dir": _path(weights_dir),
        "limit": limit,
    }
    files = tuple(Path(plugin) for plugin in plugins)
    asked = _load(source, overrides)
    if asked.tuning is not None and not asked.chosen:
        source = _tuned(source, folder, files, observers, jobs, options, tell)
        options["overrides"] = ()
    options["strict_data"] = strict_data
    registry = Registry(files)
    for observer in observers:
        registry.add_observer(observer)
    planned = prepare(source, registry=registry, **options)
    store.write_json(PLAN_FILE, describe(planned))
    with blaming(registry):
        complete_metrics(planned, store, registry)
        further = min(jobs, len(pending_stages(planned, store))) - 1
        with workers(further, partial(_join, source, store.folder, files, options)):
            execute(planned, store, registry)
    return write_tables(store, registry, published)


def tune(
    source: Source,
    *,
    out: Path | str | None = None,
    overrides: Sequence[str] = (),
    data_dir: Path | str | None = None,
    weights_dir: Path | str | None = None,
    limit: int | None = None,
    plugins: Sequence[Path | str] = (),
    observers: Sequence[object] = (),
    jobs: int = 1,
    trials: int | None = None,
    timeout: float | None = None,
    join: bool = False,
    tell: Callable[[TuningProgress], None] = lambda progress: None,
) -> Benchmark | None:
    """Searches for the settings of every configuration of a benchmark; trains no cell of it.

    What is in its studies already is not done again. Several processes may search at once, in this
    call (`jobs`) and in others on the same results folder.

    Args:
        source: path or name of the benchmark, or a `Benchmark` made in Python.
        out: results folder; beside the benchmark file unless given.
        overrides: `key=value` changes to the file.
        data_dir: folder with datasets, looked in first.
        weights_dir: folder with published weights, looked in first.
        limit: keep at most that many rows of each dataset; see `run`.
        plugins: Python files to load as plugins besides the installed ones.
        observers: objects with observer hooks; they hear of stages that trials go on from.
        jobs: processes that search.
        trials: in place of the benchmark's.
        timeout: seconds after which no trial is begun.
        join: only help with a search that is there already; nothing is written.
        tell: hears of progress.

    Returns:
        The benchmark with what was chosen, which is also in `best.toml` of the results folder;
        `trials.csv` beside it lists all trials, `trials.png` and `trials.svg` draw them. None for
        one that has joined.

    Raises:
        HarnessError: see its subclasses; finished trials stay in the study.
    """
    folder = _path(out) or default_out(source)
    folder = folder / f"limit-{limit}" if limit else folder
    if join and not (folder / "tuning").is_dir():
        raise BenchmarkError(
            f"There is no search to join in {folder}: begin one with `harness tune`."
        )
    store = Store.create(folder)
    more = () if trials is None else (f"tuning.trials={trials}",)
    options: dict[str, Any] = {
        "overrides": (*overrides, *more),
        "data_dir": _path(data_dir),
        "weights_dir": _path(weights_dir),
        "limit": limit,
    }
    files = tuple(Path(plugin) for plugin in plugins)
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    registry = Registry(files)
    for observer in observers:
        registry.add_observer(observer)
    tuner = _tuner(source, store, registry, options, tell)
    work = partial(_join_search, source, store.folder, files, options, deadline)
    with blaming(registry), workers(jobs - 1, work):
        tuner.search(deadline)
    if join:
        return None
    with blaming(registry):
        return write_choices(tuner, store)


def _tuned(
    source: Source,
    folder: Path,
    plugins: Sequence[Path],
    observers: Sequence[object],
    jobs: int,
    options: Mapping[str, Any],
    tell: Callable[[TuningProgress], None],
) -> Benchmark:
    """Returns a benchmark with what a search has chosen."""
    found = tune(
        source, out=folder, plugins=plugins, observers=observers, jobs=jobs, tell=tell, **options
    )
    assert found is not None
    return found


def _tuner(
    source: Source,
    store: Store,
    registry: Registry,
    options: Mapping[str, Any],
    tell: Callable[[TuningProgress], None],
) -> Tuner:
    from harness.tuning import Tuner

    planned = prepare(source, registry=registry, **options)
    if planned.benchmark.tuning is None:
        raise BenchmarkError(
            f"The benchmark {planned.benchmark.name!r} does not say how to tune: add a table "
            "[tuning], as with trials = 60; or, for once, --set tuning.trials=60."
        )
    with blaming(registry):
        return Tuner(planned, store, registry, tell)


def _join_search(
    source: Source,
    folder: Path,
    plugins: Sequence[Path],
    options: Mapping[str, Any],
    deadline: float,
    observers: Sequence[object],
) -> None:
    """Joins, in a process of its own, a search that another one has begun."""
    registry = Registry(plugins)
    for observer in observers:
        registry.add_observer(observer)
    tuner = _tuner(source, Store.create(folder), registry, options, lambda progress: None)
    with blaming(registry):
        tuner.search(deadline)


def write_choices(tuner: Tuner, store: Store) -> Benchmark:
    """Writes `best.toml`, `trials.csv` and their figure; returns the benchmark with the choice."""
    import pandas as pd
    import tomli_w

    from harness.drawing import write_figure
    from harness.search import trial_rows
    from harness.tuning_figures import draw_searches

    rows = pd.DataFrame([row for search in tuner.searches for row in trial_rows(search)])
    store.write_text("trials.csv", rows.to_csv(index=False, float_format="%.6g"))
    for suffix in (".png", ".svg"):
        write_figure(draw_searches(tuner.searches), store.folder / f"trials{suffix}")
    benchmark = tuner.benchmark.model_copy(update={"chosen": tuner.choose()})
    written = benchmark.model_dump(mode="json", exclude_none=True, exclude={"tuning"})
    store.write_text(
        CHOICES_FILE,
        "# Written by `harness tune`: the benchmark with the settings that were chosen, run by "
        "run.\n# `harness run` on this file trains and scores them.\n\n" + tomli_w.dumps(written),
    )
    return benchmark


def _join(
    source: Source,
    folder: Path,
    plugins: Sequence[Path],
    options: Mapping[str, Any],
    observers: Sequence[object],
) -> None:
    """Joins, in a process of its own, a run that another one has begun."""
    from harness.engine import execute

    registry = Registry(plugins)
    for observer in observers:
        registry.add_observer(observer)
    planned = prepare(source, registry=registry, **options)
    with blaming(registry):
        execute(planned, Store.create(folder), registry)


def describe(planned: Plan) -> dict[str, Any]:
    """What `plan.json` holds: the benchmark as run, its datasets, and the cells it consists of."""
    datasets = {
        data.name: data
        for scoring in planned.scorings
        for stage in scoring.chain
        for data in (*stage.datasets, scoring.dataset)
    }
    return {
        "benchmark": {
            **planned.benchmark.model_dump(mode="json"),
            "limit": planned.limit,
            "rows": {name: len(data) for name, data in datasets.items()},
        },
        "datasets": {
            name: {
                "digest": data.digest,
                "rows": len(data),
                "problems": [vars(problem) for problem in data.problems],
            }
            for name, data in datasets.items()
        },
        "not_applicable": [list(pair) for pair in planned.not_applicable],
        "cells": [
            {
                "key": scoring.key,
                **vars(scoring.cell),
                "leak_free": scoring.protocol.rules.leak_free,
                "weights": _weights_of(scoring),
                "chain": [stage.key for stage in scoring.chain],
                **optional(sources=_sources_of(scoring)),
            }
            for scoring in planned.scorings
        ],
    }


def _sources_of(scoring: Scoring) -> list[list[tuple[str, int]]]:
    """Per run, (stage, member) of what predicts; none where it is the last stage, run by run."""
    if scoring.cell.tuning == DEFAULT:
        return []
    return [[(own.stage.key, own.index) for own in members] for members in scoring.sources]


def _weights_of(scoring: Scoring) -> tuple[str, str] | None:
    """Name of the pretrained weights that a chain starts from, and of what they have seen."""
    first = scoring.sources[0][0].line[0].stage.weights
    return (first.name, first.seen) if first else None


def published_cells(source: Source, overrides: Sequence[str] = ()) -> pd.DataFrame | None:
    """Reads the published cells that a benchmark names, if it has a file and names any."""
    if _results_alone(source):
        return None
    name = _load(source, overrides).published
    if name is None:
        return None
    folder = Path() if isinstance(source, Benchmark) else find_benchmark(source).parent
    return read_published(folder / name)


def render_tables(
    board: Leaderboard, registry: Registry, published: pd.DataFrame | None = None
) -> dict[str, str]:
    """Renders a leaderboard's files from its result lines: name → text."""
    return {"table.md": render_markdown(board, registry.metrics, published), **render_csv(board)}


def render_csv(board: Leaderboard) -> dict[str, str]:
    """Renders the files that hold every number of a leaderboard: name → text."""
    return {
        "table.csv": board.summary().to_csv(index=False, float_format="%.6g"),
        "table-overlap-free.csv": board.summary("overlap-free").to_csv(
            index=False, float_format="%.6g"
        ),
    }


def write_tables(
    store: Store, registry: Registry, published: pd.DataFrame | None = None
) -> Leaderboard:
    """Writes the files of a leaderboard, and returns it."""
    board = open_board(store.folder)
    for name, text in render_tables(board, registry, published).items():
        store.write_text(name, text)
    return board


def read_board(
    source: Source, registry: Registry | None = None, out: Path | None = None
) -> Leaderboard:
    """Reads the leaderboard of a benchmark that was run, and writes its tables again.

    Args:
        source: the benchmark, or a folder with results and no benchmark.toml.
        registry: where metrics come from.
        out: results folder; beside the benchmark file unless given.

    Raises:
        StoreError: nothing was run.
    """
    store = Store(out or results_folder(source))
    return write_tables(store, registry or Registry(), published_cells(source))


def table(
    board: Leaderboard, layout: Layout | None = None, registry: Registry | None = None
) -> Pivot:
    """Lays out the cells of a leaderboard as a table; `render` makes text of it.

    Args:
        board: the leaderboard, as `run` and `read_board` return it.
        layout: what stands in rows and columns, which metrics, which cells.
        registry: where metrics come from.

    Raises:
        BenchmarkError: the layout names something that there is not.
    """
    return pivot(board, (registry or Registry()).metrics, layout)


def compare(
    a: Source,
    b: Source,
    *,
    metric: str | None = None,
    only_a: Mapping[str, str] | None = None,
    only_b: Mapping[str, str] | None = None,
    subset: str = "all",
    registry: Registry | None = None,
) -> Comparison:
    """Compares the cells that two leaderboards have in common, paired by run.

    Args:
        a: a benchmark, or a folder with results.
        b: another, or the same.
        metric: to compare; a's first unless given.
        only_a: of a only cells with these values, by column; such columns are not matched.
        only_b: of b, likewise.
        subset: which test rows count: `all` or `overlap-free`.
        registry: where metrics come from.

    Raises:
        BenchmarkError: nothing can be compared.
        StoreError: there are no results.
    """
    from harness import comparison

    one = comparison.Side.read(Store(results_folder(a)), only_a)
    other = comparison.Side.read(Store(results_folder(b)), only_b)
    name = one.board.check_metric(metric or one.board.metrics[0])
    return comparison.compare(one, other, (registry or Registry()).metrics[name], subset)


def open_board(folder: Path) -> Leaderboard:
    """Reads the leaderboard of a results folder, or of one that holds people's submissions.

    Raises:
        StoreError: nothing was run there, or a file is damaged.
    """
    if _holds_submissions(folder):
        return merge(sorted(path for path in (folder / SUBMISSIONS).iterdir()), folder.name)
    return Leaderboard.read(Store(folder))


def _holds_submissions(folder: Path) -> bool:
    return (folder / SUBMISSIONS).is_dir() and not (folder / PLAN_FILE).is_file()


def pack_submission(
    source: Source, card: Path, target: Path, out: Path | None = None
) -> Submission:
    """Packs the finished results of a benchmark into a folder of their own; see `submissions.pack`.

    Args:
        source: the benchmark, or a folder with results.
        card: the method's card, `method.toml`.
        target: the folder to make.
        out: results folder; beside the benchmark file unless given.

    Raises:
        StoreError: there is nothing to pack, not all of it, or the folder exists.
    """
    from harness import __version__

    return pack(Store(out or results_folder(source)), card, target, __version__)


def check_submission(
    folder: Path,
    *,
    data_dir: Path | None = None,
    weights_dir: Path | None = None,
    plugins: Sequence[Path] = (),
) -> Verification:
    """Checks a submission: files, schema, completeness, then every number again from the rows.

    Nothing in it is executed: it holds JSON, TOML and Parquet, and what it names is looked up among
    the plugins that are installed here.

    Args:
        folder: the submission.
        data_dir: folder with datasets, looked in first; without data, splits stay unchecked.
        weights_dir: folder with published weights, looked in first.
        plugins: Python files of the checker's own to load as plugins.

    Raises:
        StoreError: the folder is no submission.
    """
    from harness.verification import Verification

    submission = Submission.read(folder)
    for check in (check_files, check_schema, check_complete):
        if differences := tuple(check(submission)):
            return Verification({}, differences, ("scores: only once the above is mended",), ())
    options: dict[str, Any] = {"data_dir": data_dir, "weights_dir": weights_dir}
    found = verify(folder, plugins=plugins, tables=False, **options)
    return replace(found, checked={"files": len(submission.manifest.files), **found.checked})


def merge_submissions(
    folders: Sequence[Path], into: Path, registry: Registry | None = None
) -> Leaderboard:
    """Adds submissions to a leaderboard of many and writes its tables; see `merging.merge`.

    They are copied to `<into>/submissions/<name>`. Check them first.

    Raises:
        StoreError: one is no submission, or another one of its name is there.
        BenchmarkError: they cannot stand in one table.
    """
    known = into / SUBMISSIONS
    have = sorted(known.iterdir()) if known.is_dir() else []
    found = [Submission.read(folder) for folder in folders]
    for one in found:
        if (known / one.card.name).exists():
            raise StoreError(
                f"{known / one.card.name} exists already: change `name` in {one.folder}'s "
                "method.toml and pack again, or remove the old one."
            )
    merge([*have, *folders], into.name)  # an error leaves everything as it was
    make_folder(known)
    for one in found:
        copy_whole(one.folder, known / one.card.name)
    return write_tables(Store(into), registry or Registry())


FIGURES = ("heatmap", "parity", "loss", "heads", "learning", "gain")


def draw(
    kind: str,
    sources: Sequence[Source],
    layout: Layout | None = None,
    registry: Registry | None = None,
    out: Path | None = None,
) -> Figure:
    """Draws a figure of a leaderboard; a notebook shows it.

    Args:
        kind: one of `FIGURES`.
        sources: the benchmark; several for `learning`.
        layout: which cells, and for some figures where.
        registry: where metrics come from.
        out: results folder of a single benchmark; beside its file unless given.

    Raises:
        BenchmarkError: no such kind, or there is nothing that it could show.
        StoreError: nothing was run, or what the figure needs is missing.
    """
    from harness import figures, store_figures

    if kind not in FIGURES:
        raise BenchmarkError(f"No figure {kind!r}.{did_you_mean(kind, FIGURES)}")
    if len(sources) != 1 and kind != "learning":
        raise BenchmarkError(
            f"The figure {kind!r} shows one leaderboard; {len(sources)} are given."
        )
    metrics = (registry or Registry()).metrics
    wanted = layout or Layout()
    stores = [Store(out or results_folder(source)) for source in sources]
    boards = [open_board(store.folder) for store in stores]
    if kind == "learning":
        return figures.draw_learning(boards, metrics, wanted)
    board, store = boards[0], stores[0]
    if kind in ("parity", "loss"):
        from_store = {"parity": store_figures.draw_parity, "loss": store_figures.draw_losses}
        return from_store[kind](store, board, metrics, wanted)
    from_board = {
        "heatmap": figures.draw_cells,
        "heads": figures.draw_heads,
        "gain": figures.draw_gains,
    }
    return from_board[kind](board, metrics, wanted)


def results_folder(source: Source) -> Path:
    """Returns the folder with the results of a benchmark, or the folder itself without a file."""
    return _results_alone(source) or default_out(source)


def verify(
    source: Source,
    *,
    out: Path | None = None,
    data_dir: Path | None = None,
    weights_dir: Path | None = None,
    plugins: Sequence[Path] = (),
    tables: bool = True,
) -> Verification:
    """Recomputes every number of a leaderboard from its rows, and checks digests and ledger.

    Args:
        source: a benchmark, or a folder with results and no benchmark.toml; published cells and
            what benchmark.toml says are then not compared.
        out: results folder; beside the benchmark file unless given.
        data_dir: folder with datasets, looked in first.
        weights_dir: folder with published weights, looked in first.
        plugins: Python files to load as plugins besides the installed ones.
        tables: whether table files must be there, and be those of the results.

    Raises:
        StoreError: there are no results, or plan.json or results.jsonl is damaged.
    """
    from harness import verification

    registry = Registry(plugins)
    results = _results_alone(source)
    store = Store(out or results or default_out(source))
    benchmark = _stored_benchmark(store)

    def render() -> dict[str, str]:
        if not tables:
            return {}
        return render_tables(Leaderboard.read(store), registry, published_cells(source))

    def replan() -> tuple[Plan, dict[str, Any]]:
        planned = _plan_again(store, registry, data_dir, weights_dir)
        return planned, describe(planned)

    if not tables:
        declared: Benchmark | None = benchmark  # a submission: there is no other word for it
    else:
        declared = None if results else _load(source)
    with blaming(registry):
        return verification.verify(store, registry.metrics, render, replan, benchmark, declared)


def export(
    source: str | Path,
    cell: str,
    folder: Path | str,
    *,
    out: Path | str | None = None,
    data_dir: Path | str | None = None,
    weights_dir: Path | str | None = None,
    plugins: Sequence[Path | str] = (),
) -> BundleRecord:
    """Writes the trained ensemble behind a cell of a leaderboard as a bundle.

    Args:
        source: a benchmark that was run, or a folder with its results.
        cell: conditions such as `transfer=pretrained,train_on=Dataset1`; exactly one ensemble must
            meet them. Cells that differ in the test set only share one.
        folder: to write; must not be there.
        out: results folder; beside the benchmark file unless given.
        data_dir: folder with datasets, looked in first.
        weights_dir: folder with published weights, looked in first.
        plugins: Python files to load as plugins besides the installed ones.

    Raises:
        BundleError: no cell or several meet the conditions; the weights are not there; or they do
            not predict what is stored.
    """
    from harness.exporter import command_again, export, find_ensemble, parse_cell

    conditions = parse_cell(cell)
    registry = Registry([Path(plugin) for plugin in plugins])
    store = Store(_path(out) or _results_alone(source) or default_out(source))
    cells = find_ensemble(store.read_plan()["cells"], conditions)
    planned = _plan_again(store, registry, _path(data_dir), _path(weights_dir))
    with blaming(registry):
        again = command_again(cells, str(source), store.folder / CHOICES_FILE)
        return export(planned, store, cells, registry, Path(folder), again)


def predict_files(
    files: Sequence[Path | str],
    bundle: Path | str,
    *,
    level: float | None = None,
    device: str = "cpu",
    plugins: Sequence[Path | str] = (),
) -> pd.DataFrame:
    """Predicts κ of the structures in files, or in all files below folders.

    Args:
        files: see `structure_files`.
        bundle: what `export` wrote.
        level: of the interval; 0.9 unless given.
        device: `cpu`, `cuda` or `auto`.
        plugins: Python files to load as plugins besides the installed ones.

    Returns:
        One row per structure, columns as in `prediction_table`.

    Raises:
        DataError: a file is missing, or of no known kind.
        BundleError, PluginError: see `load_bundle`.
    """
    from harness.bundle import load_bundle
    from harness.conformal import DEFAULT_LEVEL
    from harness.structure_files import read_structures

    loaded = load_bundle(bundle, device=device, plugins=plugins)
    rows = [row for file in files for row in read_structures(Path(file))]
    return loaded.predict(rows, DEFAULT_LEVEL if level is None else level)


def scan(
    source: str | Path,
    bundle: Path | str,
    table: Path | str,
    *,
    level: float | None = None,
    jobs: int = 1,
    device: str = "cpu",
    data_dir: Path | str | None = None,
    plugins: Sequence[Path | str] = (),
    progress: Callable[[ScanReport], None] = lambda report: None,
) -> ScanReport:
    """Predicts every structure of a source into a Parquet file; goes on where it was stopped.

    Args:
        source: a dataset; a file or folder; or `mp:` and a query of the Materials Project.
        bundle: what `export` wrote.
        table: to write; columns as in `prediction_table`.
        level: of the interval; 0.9 unless given.
        jobs: processes that share the work. More than one needs the usual
            `if __name__ == "__main__"` in a script.
        device: `cpu`, `cuda` or `auto`.
        data_dir: folder with datasets, looked in first.
        plugins: Python files to load as plugins besides the installed ones.
        progress: called when a chunk is done.

    Raises:
        HarnessError: see `scanner.scan`; what was done before stays.
    """
    from harness.conformal import DEFAULT_LEVEL, check_level
    from harness.scan_sources import find_source
    from harness.scanner import ScanSettings
    from harness.scanner import scan as carry_out

    files = tuple(Path(plugin) for plugin in plugins)
    level = DEFAULT_LEVEL if level is None else level
    check_level(level)
    settings = ScanSettings(Path(bundle), level, device, files)
    found = find_source(str(source), Registry(files), Locations.of(_path(data_dir)))
    return carry_out(found, settings, Path(table), jobs=jobs, progress=progress)


def _stored_benchmark(store: Store) -> Benchmark:
    """The benchmark as it was run, from `plan.json`."""
    stored = store.read_plan()["benchmark"]
    own = {key: value for key, value in stored.items() if key not in ("rows", "limit")}
    benchmark: Benchmark = check_settings(Benchmark, own, str(store.folder / PLAN_FILE))
    return benchmark


def _plan_again(
    store: Store, registry: Registry, data_dir: Path | None, weights_dir: Path | None
) -> Plan:
    """Lays out the stored benchmark again, from the data found here."""
    locations = replace(Locations.of(data_dir, weights_dir), offline=True)
    limit = store.read_plan()["benchmark"].get("limit")
    with blaming(registry):
        return plan(_stored_benchmark(store), registry, locations, limit=limit)


def _results_alone(source: Source) -> Path | None:
    """Returns the folder that a source names where it holds results and no benchmark file.

    Like a benchmark, it may be named as it lies below `leaderboards`.
    """
    if isinstance(source, Benchmark):
        return None
    folders = (Path(source), Path("leaderboards") / source)
    if any((folder / BENCHMARK_FILE).is_file() for folder in folders):
        return None
    return next((f for f in folders if (f / PLAN_FILE).is_file() or _holds_submissions(f)), None)


def _path(path: Path | str | None) -> Path | None:
    return Path(path) if path else None
