"""What the models of a leaderboard cost: measured on one core, beside what records say."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import process_time
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from harness.api.lookup import Source, registry_of, results_folder
from harness.api.plans import plan_again
from harness.errors import CannotEncode, StoreError
from harness.files import replacing
from harness.registry.attribution import blaming
from harness.report.leaderboard import Leaderboard
from harness.results.store import Store

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from harness.planning.plan import MemberOf, Plan, Scoring
    from harness.planning.resolved import ResolvedBackbone
    from harness.plugin.arrays import Floats, Indices
    from harness.plugin.backbone import Pool
    from harness.plugin.crystal import Crystal
    from harness.registry.registry import Registry
    from harness.training.stage_builder import StageBuilder

One = TypeVar("One")

COSTS_FILE = "costs.csv"
CRYSTALS = 5
"""Encoded and predicted one by one; their median counts."""


@dataclass(frozen=True)
class Cost:
    """Seconds of one core.

    Attributes:
        encode: for one crystal, that is not in the cache.
        fit: for one run, source stages included; of what was trained by gradient, by the clock and
            as its record has it, a member's share of its stack.
        predict: for one crystal by one run, once it is encoded.
    """

    encode: float
    fit: float
    predict: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.encode + other.encode, self.fit + other.fit, self.predict + other.predict)


def read_costs(folder: Path) -> pd.DataFrame:
    """Reads what was measured; see `measure_costs`.

    Args:
        folder: with results.

    Raises:
        StoreError: nothing was.
    """
    import pandas as pd

    if not (path := folder / COSTS_FILE).is_file():
        raise StoreError(f"{path} is missing: `harness cost {folder.name}` measures and writes it.")
    return pd.read_csv(path)


def measure_costs(
    source: Source,
    registry: Registry | None = None,
    out: Path | None = None,
    data_dir: Path | None = None,
    weights_dir: Path | None = None,
) -> pd.DataFrame:
    """Measures what every configuration costs, and writes it beside the results, as `costs.csv`.

    What a committee costs is the sum of its members. Weights are not needed: a network takes as
    long with any.

    Args:
        source: a benchmark that was run.
        registry: where its plugins are; found unless given.
        out: results folder; beside the benchmark file unless given.
        data_dir: folder with datasets, looked in first.
        weights_dir: folder with published weights, looked in first.

    Returns:
        One row per configuration and training set: `model`, `train_on`, the leaderboard's first
        metric as it is tested on the same dataset (NaN where it is not), and its `_std`,
        `encode_seconds`, `fit_seconds`, `predict_seconds`.

    Raises:
        HarnessError: it was not run, or its data are not here.
    """
    import pandas as pd
    import torch

    registry = registry or registry_of(source)
    store = Store(out or results_folder(source))
    with blaming(registry):
        planned = plan_again(store, registry, data_dir, weights_dir)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            rows = list(_rows(planned, store))
        finally:
            torch.set_num_threads(threads)
    table = pd.DataFrame(rows)
    with replacing(store.folder / COSTS_FILE) as staging:
        table.to_csv(staging, index=False, float_format="%.3g")
    return table


def _rows(planned: Plan, store: Store) -> Iterator[dict[str, str | float]]:
    import torch

    from harness.training.stage_builder import StageBuilder

    leaderboard = Leaderboard.read(store)
    metric = leaderboard.metrics[0]
    summary: list[Any] = leaderboard.summary(metrics=[metric]).to_dict("records")
    scores = {
        (leaderboard.label_of(row), row["train_on"]): (row[metric], row[f"{metric}_std"])
        for row in summary
        if row["train_on"] == row["test_on"]
    }
    meter = _Meter(StageBuilder(planned.encoder, store, torch.device("cpu")), store)
    seen: set[tuple[str, str]] = set()
    for scoring in planned.scorings:
        label = leaderboard.label_of(vars(scoring.cell))
        if (label, scoring.cell.train_on) not in seen:
            seen.add((label, scoring.cell.train_on))
            cost = meter.cost(scoring)
            mean, std = scores.get((label, scoring.cell.train_on), (math.nan, math.nan))
            yield {
                "model": label,
                "train_on": scoring.cell.train_on,
                metric: mean,
                f"{metric}_std": std,
                "encode_seconds": cost.encode,
                "fit_seconds": cost.fit,
                "predict_seconds": cost.predict,
            }


class _Meter:
    """Measures; what several cells have in common, once."""

    def __init__(self, stage_builder: StageBuilder, store: Store) -> None:
        self._builder, self._store = stage_builder, store
        self._device = stage_builder.device
        self._known: dict[tuple[str, int], Cost] = {}

    def cost(self, scoring: Scoring) -> Cost:
        """Returns what the first run of a cell costs, all its members together."""
        costs = [self._of_member(member) for member in scoring.sources[0]]
        return sum(costs[1:], start=costs[0])

    def _of_member(self, member: MemberOf) -> Cost:
        key = (member.stage.key, member.index)
        if key not in self._known:
            model, crystals = member.stage.model, member.stage.dataset.crystals
            measure = self._in_closed_form if member.stage.closed_form else self._trained
            places = _spread(len(crystals))
            encode = self._encoding(model, [crystals[place] for place in places])
            self._known[key] = Cost(encode, *measure(member, places))
        return self._known[key]

    def _encoding(self, model: ResolvedBackbone, crystals: Sequence[Crystal]) -> float:
        """Of a backbone that is made of parts, what these take."""
        if model.parts:
            return sum(self._encoding(part, crystals) for part in model.parts)
        return _seconds_each(model.backbone.encode, crystals)

    def _trained(self, member: MemberOf, places: Sequence[int]) -> tuple[float, float]:
        from harness.training.prediction import predict

        records = [self._store.stage_record(one.stage.key) for one in member.line]
        fit = sum(record.seconds / len(record.runs) for record in records)
        model, pool = self._ready(member)

        def answer(place: int) -> None:
            rows, scalers = [np.array([place])], [member.rows.scaler]
            predict(model["backbone"], model["head"], pool, rows, scalers, device=self._device)

        return fit, _seconds_each(answer, places)

    def _in_closed_form(self, member: MemberOf, places: Sequence[int]) -> tuple[float, float]:
        from harness.training.closed_form import ask, fit_head, rows_to_fit
        from harness.training.prediction import embed

        stage, own = member.stage, member.rows
        model, pool = self._ready(member)

        def embedded(rows: Indices) -> Floats:
            return embed(model["backbone"], pool, [rows], device=self._device)[0]

        rows = rows_to_fit(member, embedded(own.train))
        began = process_time()
        predictor = fit_head(stage.model, rows)
        fit = process_time() - began
        return fit, _seconds_each(
            lambda place: ask(stage.model, predictor, embedded(np.array([place]))), places
        )

    def _ready(self, member: MemberOf) -> tuple[nn.ModuleDict, Pool]:
        """A model of one member, with any weights, and the packed crystals of its dataset."""
        stage = member.stage
        pool = self._builder.pool(stage.dataset, stage.model)
        return self._builder.modules(stage, [member.index]), pool


def _spread(number: int) -> list[int]:
    """A few of so many places, evenly spread."""
    places: list[int] = (
        np.linspace(0, number - 1, min(CRYSTALS, number)).round().astype(int).tolist()
    )
    return places


def _seconds_each(work: Callable[[One], object], things: Sequence[One]) -> float:
    """The median processor seconds for one of some things, after a first try."""
    took = []
    for thing in (things[0], *things):
        began = process_time()
        try:
            work(thing)
        except CannotEncode:
            continue
        took.append(process_time() - began)
    return median(took[1:]) if len(took) > 1 else math.nan
