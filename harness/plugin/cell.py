"""What tells the entries of a table apart."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Cell:
    """The identity of one table entry.

    Attributes:
        backbone: its name with its settings, as tables show it.
        head: likewise.
        transfer: likewise, or `BASELINE`.
        tuning: how its settings were found; `DEFAULT` where they are those of the benchmark.
        protocol: likewise.
        train_on: the dataset that the last stage fits.
        test_on: the dataset whose test rows are scored.
    """

    backbone: str
    head: str
    transfer: str
    tuning: str
    protocol: str
    train_on: str
    test_on: str


CELL = tuple(field.name for field in fields(Cell))
"""What tells the cells of a table apart, in the order in which tables show it."""

SUBMISSION = "submission"
"""The further column that tells cells apart where several people's results are shown together."""

BASELINE = "baseline"
"""Stands in place of a transfer strategy's name for the benchmark's baselines."""

FIXED = "fixed"
"""The transfer that stands in place of all others for a backbone of which nothing is trained."""

COMMITTEE = "committee"
"""Stands in place of backbone and transfer for the mean of several configurations."""

DEFAULT = "default"
"""Stands where settings are those of the benchmark, and were not searched for."""
