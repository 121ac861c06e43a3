"""What the page of a model shows: what it is made of, its settings and weights, all its cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.apps.site.html_tables import (
    Column,
    HtmlEntry,
    Table,
    better,
    metric_title,
    title_of,
)
from harness.apps.site.leaderboard_pages import cost_columns, cost_entries, make_score
from harness.apps.site.parts import KINDS
from harness.apps.site.results import PLACE, Configuration, Results
from harness.apps.site.stages import StagePart
from harness.planning.labels import find_labelled, make_labels
from harness.plugin.cell import COMMITTEE, DEFAULT


@dataclass(frozen=True)
class ModelPage:
    """The page of one configuration.

    Attributes:
        page: its name.
        label: of the configuration.
        parts: what it is made of: kind, name with settings, and what its plugin says of it.
        members: labels and pages of what a committee is made of.
        weighting: how these count.
        weights: it starts from: name, digest where it is known.
        settings: of its stages, by title.
        metric: by which it is drawn.
        cells: all of them, with every metric, and what it costs.
    """

    page: str
    label: str
    parts: Sequence[tuple[str, str, str]]
    members: Sequence[HtmlEntry]
    weighting: str
    weights: Mapping[str, str]
    settings: Mapping[str, Mapping[str, str]]
    metric: str
    cells: Table


def make_model_page(
    results: Results, configuration: Configuration, stages: Sequence[StagePart]
) -> ModelPage:
    """Gathers the page of a model.

    Args:
        results: of its leaderboard.
        configuration: the model.
        stages: of its first cell that was run.
    """
    named = dict(zip(results.model, configuration, strict=True))
    committee = named["transfer"] == COMMITTEE
    kinds = () if committee else KINDS
    shown = [(kind, named[kind]) for kind in kinds]
    shown += [("tuning", named["tuning"])] if named["tuning"] != DEFAULT else []
    return ModelPage(
        page=results.model_pages[configuration],
        label=results.label(configuration),
        parts=[(kind, text, results.parts.get((kind, text), "")) for kind, text in shown],
        members=_members(results, named) if committee else (),
        weighting=_committee(results, named).get("weighting", "equal") if committee else "",
        weights={
            stage.settings["weights"]: stage.manifest.get("weights_digest", "")
            for stage in stages
            if stage.settings.get("weights")
        },
        settings={stage.title: stage.settings for stage in stages if stage.settings},
        metric=metric_title(next(iter(results.metrics.values()))),
        cells=_cells(results, configuration),
    )


def _committee(results: Results, named: Mapping[str, str]) -> Mapping[str, Any]:
    """What the benchmark says of a committee; of one that it no longer has, that it has nobody."""
    listed = results.leaderboard.settings.get("committees", ())
    return next((own for own in listed if own["label"] == named["head"]), {"of": ()})


def _members(results: Results, committee: Mapping[str, str]) -> list[HtmlEntry]:
    """What a committee is made of, found as its benchmark names it: by its protocol, of models."""
    others = [
        cell.columns
        for cell in results.cells
        if cell.columns["transfer"] != COMMITTEE
        and cell.columns["protocol"] == committee["protocol"]
    ]
    labels = make_labels(others, results.leaderboard.settings.get("labels", {}))
    members = [find_labelled(text, labels) for text in _committee(results, committee)["of"]]
    return [
        HtmlEntry(results.label(own), href=f"{results.model_pages[own]}.html") for own in members
    ]


def _cells(results: Results, configuration: Configuration) -> Table:
    metrics = results.metrics
    columns = (
        *(Column(title_of(column), "name") for column in PLACE),
        Column("rank", "text"),
        *(Column(spec.title, "number", better(spec)) for spec in metrics.values()),
        *cost_columns(results),
    )
    first = next(iter(metrics))
    rows = []
    for place, cell in results.matrices[configuration].items():
        scores = [make_score(results, cell, metric, root="../") for metric in metrics]
        rows.append(
            (
                *map(HtmlEntry, place),
                HtmlEntry(results.ranks[first, "all"].get(cell.name, "—")),
                *scores,
                *cost_entries(results, configuration, place[0]),
            )
        )
    return Table("cells", "", columns, tuple(rows))
