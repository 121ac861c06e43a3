"""What is asked of a benchmark, in a form that other processes can be sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.api.lookup import Source, default_out, load_benchmark, path_of
from harness.api.plans import prepare
from harness.planning.benchmark import Benchmark
from harness.planning.plan import Plan
from harness.registry.registry import Registry


@dataclass(frozen=True)
class Request:
    """What `run` and `tune` are asked; whoever shares the work lays out the same plan from it.

    Attributes:
        source: the benchmark.
        overrides: `key=value` changes to its file.
        data_dir: folder with datasets, looked in first.
        weights_dir: folder with published weights, looked in first.
        limit: keep at most that many rows of each dataset.
        plugins: Python files to load as plugins besides the installed ones.
        strict_data: refuse datasets with unusable rows.
    """

    source: Source
    overrides: Sequence[str] = ()
    data_dir: Path | str | None = None
    weights_dir: Path | str | None = None
    limit: int | None = None
    plugins: Sequence[Path | str] = ()
    strict_data: bool = False

    def read(self) -> Benchmark:
        """Reads the benchmark."""
        return load_benchmark(self.source, self.overrides)

    def folder(self, out: Path | str | None) -> Path:
        """Returns the folder for results: `out` or the default; of a dry run, a sub-folder."""
        folder = path_of(out) or default_out(self.source)
        return folder / f"limit-{self.limit}" if self.limit else folder

    def register(self, observers: Sequence[object]) -> Registry:
        """Loads the plugins, and adds the observers."""
        registry = Registry([Path(plugin) for plugin in self.plugins])
        for observer in observers:
            registry.add_observer(observer)
        return registry

    def plan(self, registry: Registry) -> Plan:
        """Lays out what is to be done."""
        return prepare(
            self.source,
            overrides=self.overrides,
            data_dir=path_of(self.data_dir),
            weights_dir=path_of(self.weights_dir),
            limit=self.limit,
            strict_data=self.strict_data,
            registry=registry,
        )
