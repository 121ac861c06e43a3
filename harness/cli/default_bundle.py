"""What commands say and do where no bundle is named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.cli.output import say
from harness.errors import BundleError, PluginError

if TYPE_CHECKING:
    from harness.apps.predict.bundle import BundleRecord

GO_BACK = "`harness bundle use shipped` goes back to the one that comes with the harness."


BEYOND = (
    "It knows simple crystals only: its 90% interval held 98% of 177 others of Dataset1 and "
    "Dataset2 and 98% of 3317 of AFLOW, since it is wide there: of AFLOW a factor of 106 either "
    "way (median), around 4 times too much (mean)."
)
"""What became of the shipped bundle where no training row has the formula; a test measures it."""

BETTER = (
    "Better: `harness bundle make paraisite` trains on published data, in a minute; then that one "
    "answers."
)


@contextmanager
def bundles_or_default(given: list[str] | None) -> Iterator[list[str]]:
    """Yields the bundles that are named, else the default one; what is wrong with that says so."""
    from harness.apps.predict.default_bundle import SHIPPED, default_bundle

    if given:
        yield given
        return
    folder = default_bundle()
    try:
        yield [str(folder)]
    except (BundleError, PluginError) as problem:
        if folder == SHIPPED:
            raise
        told = f"{problem} No bundle was named, so this is your default one: {GO_BACK}"
        raise type(problem)(told) from problem.__cause__


def tell_default(record: BundleRecord, *, to_errors: bool = False) -> None:
    """Says which bundle answers where none is named, and how good it is."""
    from harness.apps.predict.default_bundle import SHIPPED, default_bundle

    shipped, one = default_bundle() == SHIPPED, record.cells[0].cell
    rows, data = record.datasets[one["train_on"]][1], one["train_on"]
    model = f"{one['backbone']} + {one['head']}"
    if shipped:
        what = f"that of the harness, {model}, on {rows} simple crystals with measured κ ({data})"
    else:
        what = f"your default, {model}, {one['transfer']}, on {data} ({rows} rows)"
    lines = [f"Bundle: {what}.", score_line(record)]
    for line in (*lines, *((BEYOND, BETTER) if shipped else ())):
        say(line, to_errors=to_errors)


def score_line(record: BundleRecord) -> str:
    """How a bundle scored on its test rows, by the first metric of its leaderboard."""
    from harness.registry.registry import Registry

    name = next(iter(record.cells[0].metrics))
    metric = Registry().metrics_of(record.property_name)[name]
    scores = [
        f"{'failed' if mean is None else f'{mean:.2f}'}{'' if std is None else f' ({std:.2f})'} "
        f"on {one.cell['test_on']}"
        for one in record.cells
        for mean, std in [one.metrics[name]]
    ]
    title = f"{metric.title} in {metric.unit}" if metric.unit else metric.title
    return f"Test rows: {title}, mean (std) over {len(record.runs)} runs: {', '.join(scores)}."
