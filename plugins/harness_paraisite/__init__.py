"""The published study ParAIsite: its four datasets, its protocol and, as a table, its results.

Source: L. Klochko, M. d'Aquin, A. Togo, L. Chaput, arXiv 2411.18259, and the repository
github.com/liudakl/ParAIsite at commit cc0c1ff578cbed186ba930784db2909b0066a80e.

The published numbers lie in `leaderboards/paraisite/published.csv`: `mean` and `std` are those of
the table in that repository's README; `runs_mean` and `runs_std` (ddof 1) are computed from its own
per-run files (main/src/results_on_train_test), and `note` says where the two disagree.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from harness.plugin import DatasetSpec, ProtocolSpec, hookimpl, shipped
from harness_paraisite.protocol import PublishedRules, PublishedSettings
from harness_paraisite.sources import load_rows

if TYPE_CHECKING:
    from collections.abc import Iterable


@hookimpl
def register_datasets() -> Iterable[DatasetSpec]:
    """The four published datasets; `MIX` is the other two one after the other."""
    for name in ("Dataset1", "Dataset2", "AFLOW"):
        card = shipped(f"datasets/{name}.toml")
        yield DatasetSpec(name, card, load=partial(load_rows, name, card))
    yield DatasetSpec("MIX", shipped("datasets/MIX.toml"), parts=("Dataset1", "Dataset2"))


@hookimpl
def register_protocols() -> Iterable[ProtocolSpec]:
    """The protocol of the published study."""
    yield ProtocolSpec(
        name="published",
        summary="80/20 by numpy permutation; validation rows are the test rows (as ParAIsite)",
        settings=PublishedSettings,
        make=PublishedRules,
    )
