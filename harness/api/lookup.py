"""What a name stands for: a dataset, a benchmark, the folder with its results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.dataset_loader import DatasetLoader
from harness.errors import BenchmarkError
from harness.planning.benchmark import BENCHMARK_FILE, Benchmark, find_benchmark
from harness.plugin.locations import Locations, shipped
from harness.registry.attribution import blaming
from harness.registry.known_files import is_known, remember
from harness.registry.registry import Registry
from harness.report.submissions import SUBMISSIONS
from harness.results.store import PLAN_FILE

if TYPE_CHECKING:
    from harness.data.dataset import Dataset

Source = str | Path | Benchmark
"""A benchmark: the path of its file, a name, or made in Python."""


def load_dataset(
    name: str,
    *,
    data_dir: Path | str | None = None,
    plugins: Sequence[Path | str] = (),
    locations: Locations | None = None,
) -> Dataset:
    """Loads a dataset by name; `.frame()` gives its rows as a pandas frame.

    Args:
        name: of the dataset.
        data_dir: a folder to look in first.
        plugins: Python files to load as plugins besides the installed ones.
        locations: all folders to look in, in place of `data_dir`; what a plugin is given.

    Raises:
        HarnessError: no plugin offers it, or its rows are not to be had.
    """
    registry = Registry([Path(plugin) for plugin in plugins])
    with blaming(registry):
        return DatasetLoader(registry, locations or Locations.of(path_of(data_dir)))[name]


def load_benchmark(source: Source, overrides: Sequence[str] = ()) -> Benchmark:
    """Reads a benchmark; one that was made in Python is returned as it is.

    Raises:
        BenchmarkError: its file cannot be used, or there are overrides and no file.
    """
    if not isinstance(source, Benchmark):
        return Benchmark.load(source, overrides)
    if overrides:
        raise BenchmarkError(
            "Overrides are for benchmark files; change the Benchmark itself, as by "
            "benchmark.model_copy(update={...})."
        )
    return source


def plugin_files(source: Source, benchmark: Benchmark | None = None) -> list[Path]:
    """Returns the plugin files that a benchmark lists; none of a folder with results alone.

    Args:
        source: the benchmark.
        benchmark: as it was read from the source, where that has been done.
    """
    if results_alone(source):
        return []
    listed = (benchmark or load_benchmark(source)).plugins
    return [home_of(source) / name for name in listed]


def home_of(source: Source) -> Path:
    """Returns the folder that files which a benchmark names are relative to.

    It is that of its file, or the current one of a benchmark made in Python.
    """
    return Path() if isinstance(source, Benchmark) else find_benchmark(source).parent


def registry_of(
    *sources: Source, plugins: Sequence[Path | str] = (), run: bool = False
) -> Registry:
    """Loads the installed plugins, given files, and those that benchmarks list.

    Args:
        sources: the benchmarks, or folders with results alone.
        plugins: further files.
        run: whether the benchmarks are to be run. Where their results are only read, a listed file
            is loaded if this user has run it, as it is now; see `known_files`.
    """
    listed = [path for source in sources for path in plugin_files(source)]
    if run:
        return Registry(files_to_run(plugins, listed))
    files = _each_once([*map(Path, plugins), *filter(is_known, listed)])
    loaded = {path.resolve() for path in files}
    return Registry(files, [path for path in listed if path.resolve() not in loaded])


def files_to_run(given: Sequence[Path | str], listed: Sequence[Path]) -> tuple[Path, ...]:
    """Joins the plugin files of a run, and notes that they are run."""
    files = _each_once([*map(Path, given), *listed])
    remember(files)
    return files


def _each_once(files: Sequence[Path]) -> tuple[Path, ...]:
    return tuple({path.resolve(): path for path in files}.values())


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


def results_folder(source: Source) -> Path:
    """Returns the folder with the results of a benchmark, or the folder itself without a file."""
    return results_alone(source) or default_out(source)


def results_alone(source: Source) -> Path | None:
    """Returns the folder that a source names where it holds results and no benchmark file.

    Like a benchmark, it may be named as it lies below `leaderboards`.
    """
    if isinstance(source, Benchmark):
        return None
    folders = (Path(source), Path("leaderboards") / source)
    if any((folder / BENCHMARK_FILE).is_file() for folder in folders):
        return None
    return next((f for f in folders if (f / PLAN_FILE).is_file() or holds_submissions(f)), None)


def holds_submissions(folder: Path) -> bool:
    """Whether a folder holds people's submissions, and no results of its own."""
    return (folder / SUBMISSIONS).is_dir() and not (folder / PLAN_FILE).is_file()


def path_of(path: Path | str | None) -> Path | None:
    """Returns a path that may be given as text; None for none, and for empty text."""
    return Path(path) if path else None
