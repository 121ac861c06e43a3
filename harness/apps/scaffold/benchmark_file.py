"""A benchmark file to begin with: commented, and it runs as it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from harness.errors import BenchmarkError
from harness.files import new_folder
from harness.planning.benchmark import BENCHMARK_FILE, Benchmark

if TYPE_CHECKING:
    from harness.plugin.property import PropertySpec
    from harness.registry.registry import Registry

TEMPLATE = Path(__file__).parent / "templates" / "benchmark.toml.template"


def write_benchmark(
    name: str, datasets: Sequence[str], registry: Registry, parent: Path = Path("leaderboards")
) -> Path:
    """Writes `NAME/benchmark.toml` in a folder, and returns its path.

    Args:
        name: of the leaderboard.
        datasets: to train and test on, of one property.
        registry: that knows them.
        parent: the folder; made where there is none.

    Raises:
        PluginError: no plugin offers a dataset.
        BenchmarkError: the name is impossible, the datasets are of several properties, or the
            folder exists already or cannot be written.
    """
    spec = _property_of(datasets, registry)
    text = render(name, datasets, spec)
    folder = parent / name
    if folder.exists() or folder.is_symlink():
        raise BenchmarkError(f"{folder} exists already: choose another name, or move it away.")
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with new_folder(folder) as draft:
            (draft / BENCHMARK_FILE).write_text(text, encoding="utf-8")
            Benchmark.load(draft / BENCHMARK_FILE, (f"name={json.dumps(name)}",))
    except OSError as problem:
        raise BenchmarkError(f"Cannot write {folder}: {problem}.") from None
    return folder / BENCHMARK_FILE


def render(name: str, datasets: Sequence[str], spec: PropertySpec) -> str:
    """Returns the text of the file."""
    words = {
        "name": json.dumps(name, ensure_ascii=False),
        "datasets": ", ".join(json.dumps(dataset, ensure_ascii=False) for dataset in datasets),
        "label": name,
        "property": spec.name,
        "symbol": spec.symbol,
        "unit": spec.unit or "no unit",
        "constant": "mean-log" if spec.is_log else "mean",
    }
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(words)


def _property_of(datasets: Sequence[str], registry: Registry) -> PropertySpec:
    names = {dataset: registry.datasets[dataset].read_card().property for dataset in datasets}
    if len({*names.values()}) > 1:
        told = ", ".join(f"{dataset} has {name}" for dataset, name in names.items())
        raise BenchmarkError(f"A benchmark is of one property, and {told}.")
    return registry.properties[names[datasets[0]]]
