"""What is asked of a benchmark, in a form that other processes can be sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api.lookup import (
    Source,
    default_out,
    files_to_run,
    home_of,
    load_benchmark,
    path_of,
    plugin_files,
)
from harness.api.plans import prepare
from harness.planning.benchmark import Benchmark
from harness.registry.registry import Registry
from harness.remote.executor_session import session_of
from harness.results.store import Store
from harness.training.run_context import RunContext

if TYPE_CHECKING:
    from harness.plugin.executor import ExecutorRequest
    from harness.training.stop_signal import StopSignal


@dataclass(frozen=True)
class Request:
    """What `run` and `tune` are asked; whoever shares the work lays out the same plan from it.

    Attributes:
        benchmark: as it was read, once.
        folder: for results.
        data_dir: folder with datasets, looked in first.
        weights_dir: folder with published weights, looked in first.
        limit: keep at most that many rows of each dataset.
        plugins: Python files to load as plugins besides the installed ones, those that the
            benchmark lists among them.
        strict_data: refuse datasets with unusable rows.
        home: folder that the plugin files which the benchmark lists are relative to.
    """

    benchmark: Benchmark
    folder: Path
    data_dir: Path | None = None
    weights_dir: Path | None = None
    limit: int | None = None
    plugins: tuple[Path, ...] = ()
    strict_data: bool = False
    home: Path = Path()

    @classmethod
    def read(
        cls,
        source: Source,
        overrides: Sequence[str] = (),
        *,
        out: Path | str | None = None,
        data_dir: Path | str | None = None,
        weights_dir: Path | str | None = None,
        limit: int | None = None,
        plugins: Sequence[Path | str] = (),
        strict_data: bool = False,
    ) -> Request:
        """Reads the benchmark; the folder is `out` or the default, of a dry run a sub-folder.

        Raises:
            BenchmarkError: see `load_benchmark`.
        """
        folder = path_of(out) or default_out(source)
        benchmark = load_benchmark(source, overrides)
        files = files_to_run(plugins, plugin_files(source, benchmark))
        return cls(
            benchmark,
            folder / f"limit-{limit}" if limit else folder,
            path_of(data_dir),
            path_of(weights_dir),
            limit,
            files,
            strict_data,
            home_of(source),
        )

    @contextmanager
    def begun(
        self,
        stop: StopSignal,
        observers: Sequence[object] = (),
        jobs: int = 1,
        executor: ExecutorRequest | None = None,
    ) -> Iterator[RunContext]:
        """Loads the plugins, lays out the plan and opens the store: once in every process.

        Args:
            stop: whether to end before all is done.
            observers: of this process.
            jobs: processes in which crystals are encoded, at most.
            executor: of crystals, stages and trials, which ends with the block.
        """
        from harness.training.stack_task import BY_CONTENT

        registry = Registry(self.plugins)
        for observer in observers:
            registry.add_observer(observer)
        store = Store.create(self.folder)
        with session_of(executor, registry, BY_CONTENT, stop.check) as elsewhere:
            planned = prepare(
                self.benchmark,
                data_dir=self.data_dir,
                weights_dir=self.weights_dir,
                limit=self.limit,
                strict_data=self.strict_data,
                registry=registry,
                jobs=jobs,
                elsewhere=elsewhere,
            )
            yield RunContext(planned, store, registry, stop, elsewhere=elsewhere)
