"""The user's own datasets: what `harness datasets import` has put into the folder for them."""

from __future__ import annotations

from collections.abc import Iterable

from harness import imported_datasets
from harness.plugin import DatasetSpec, hookimpl


@hookimpl
def register_datasets() -> Iterable[DatasetSpec]:
    """Offers every imported dataset, without reading any."""
    return imported_datasets()
