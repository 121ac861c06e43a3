"""Whether settings are the best of their trials, as they are said to be. Loads no Optuna."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from harness.planning.chosen_settings import Chosen
    from harness.plugin.metric import MetricSpec

SEARCH = ("backbone", "head", "transfer", "protocol", "train_on", "run")
"""Columns of `trials.csv` that name a search and the run it is for."""

PRECISION = 1e-5
"""Relative; the table has six digits."""


def check_ranks(
    chosen: Sequence[Chosen], trials: pd.DataFrame, metrics: Mapping[str, MetricSpec]
) -> Iterator[str]:
    """Yields a line for every setting that is not what the trials make it.

    Args:
        chosen: what a benchmark was run with.
        trials: the table `trials.csv`, read as it stands.
        metrics: by name, as registered; the table has columns for those that trials are judged by.
    """
    judged = [name for name in trials.columns if name in metrics]
    complete = trials[trials["state"] == "complete"]
    settings = complete["setting"].map(json.loads)
    for own in chosen:
        title = f"{own.head.label} {own.transfer.label} {own.train_on}, run {own.run}"
        wanted = own.setting.model_dump(mode="json")
        run = "all" if own.selection == "shared" else str(own.run)
        found = complete[
            np.array([setting == wanted for setting in settings], dtype=bool)
            & (complete["head"] == own.head.label)
            & (complete["train_on"] == own.train_on)
            & (complete["run"].astype(str) == run)
        ]
        scored = [
            (row, name, row[name])
            for _, row in found.iterrows()
            for name in judged
            if own.score is not None and np.isclose(row[name], own.score, rtol=PRECISION)
        ]
        if not scored:
            yield f"chosen: {title}: no complete trial has the setting and score of rank {own.rank}"
            continue
        row, name, score = scored[0]
        rivals = complete[(complete[list(SEARCH)] == row[list(SEARCH)]).all(axis=1)][name]
        sign = -1.0 if metrics[name].higher_is_better else 1.0
        better = int((sign * rivals < sign * score).sum())
        equal = int((rivals == score).sum())
        if not better < own.rank <= better + equal:
            yield (
                f"chosen: {title}: {better} trials score better than {score:.4g}, which is said "
                f"to have rank {own.rank}"
            )
