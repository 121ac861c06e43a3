"""What the record of a stage says, laid out: settings, manifest, members, learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.apps.site.html_tables import Column, HtmlEntry, Table, count, flat, significant
from harness.apps.site.plots import Mark, Plot, dots, frame_x, frame_y, line, thin
from harness.report.plot_data import member_curves
from harness.results.store import STAGE_FILE

if TYPE_CHECKING:
    from harness.results.records import StageRecord
    from harness.results.store import Store

SETTINGS = ("model", "training", "freeze", "groups", "alongside", "weights", "transferred")
"""What of a stage's record says how it was to be trained; the rest says how it went."""

PER_MEMBER = ("train_rows", "validation_rows", "best_epoch", "skipped_updates")
"""Lists of a stage's record with one entry per member."""

ELSEWHERE = ("title", "runs", "scalers", "history", *PER_MEMBER)
"""What is shown in another form."""


@dataclass(frozen=True, eq=False)
class StagePart:
    """One stage of a cell's chain.

    Attributes:
        title, key: of the stage.
        settings: how it was to be trained.
        manifest: what it depended on and how it went.
        members: one row each; None where its record is missing.
        curves: of training; none where the head is fitted in closed form.
        missing: the file that is not there; empty if it is.
    """

    title: str
    key: str
    settings: Mapping[str, str]
    manifest: Mapping[str, str]
    members: Table | None
    curves: Sequence[Plot]
    missing: str = ""


def read_stage(store: Store, key: str) -> StagePart:
    """Reads a stage's record, where it was kept."""
    if not store.has_record(key):
        return StagePart("stage", key, {}, {}, None, (), f"stages/{key}/{STAGE_FILE}")
    record = store.stage_record(key)
    common, own = _split_training(record)
    settings = {name: getattr(record, name) for name in SETTINGS} | {"training": common}
    manifest = {n: v for n, v in record.as_json().items() if n not in (*SETTINGS, *ELSEWHERE)}
    return StagePart(
        record.title,
        key,
        flat(settings),
        flat(manifest),
        _members(record, own),
        _curves(key, record, common),
    )


def _split_training(record: StageRecord) -> tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]:
    """Training settings of all members, and where they differ, those of each."""
    training = record.trainings
    if not isinstance(record.training, list):
        return (training[0] if training else {}), ()
    names = dict.fromkeys(name for own in training for name in own)
    same = {n for n in names if all(own.get(n) == training[0].get(n) for own in training)}
    common = {name: training[0].get(name) for name in names if name in same}
    return common, [{n: own.get(n) for n in names if n not in same} for own in training]


def _members(record: StageRecord, own: Sequence[Mapping[str, Any]]) -> Table:
    """One row per member of the stage: per run, but where settings were searched for."""
    lists = {n: values for n in PER_MEMBER if (values := getattr(record, n)) is not None}
    scalers = record.scalers
    columns = [Column("member", "name"), Column("run", "name")]
    columns += [Column(name.replace("_", " "), "number") for name in lists]
    columns += [Column(f"scaler {name}", "number") for name in ("mean", "std") if scalers]
    columns += [Column(name.replace("_", " "), "number") for name in (own[0] if own else ())]
    rows = []
    for member, run in enumerate(record.runs):
        entries = [count(member), count(run), *(count(values[member]) for values in lists.values())]
        if scalers:
            entries += [significant(scalers[member][name], 4) for name in ("mean", "std")]
        if own:
            entries += [_setting(value) for value in own[member].values()]
        rows.append(tuple(entries))
    return Table(f"stage-{record.title}", "", tuple(columns), tuple(rows))


def _setting(value: Any) -> HtmlEntry:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return significant(value)
    return HtmlEntry("—" if value is None else str(value))


def _curves(key: str, record: StageRecord, common: Mapping[str, Any]) -> tuple[Plot, ...]:
    history = record.history
    if not history:
        return ()
    loss = f"training loss ({common.get('loss', 'of each its own')})"
    return (
        _draw(f"loss-{key}", loss, history["train_loss"], None),
        _draw(f"score-{key}", "score on validation rows", history["score"], record.best_epoch),
    )


def _draw(name: str, title: str, values: Sequence[Sequence[Any]], best: Any) -> Plot:
    """Draws one line per member; where `best` is given, with a dot on the epoch that was kept."""
    curves = member_curves(values)
    epochs = np.arange(1.0, len(curves) + 1)
    drawn = thin(len(curves)).astype(int)
    x = replace(frame_x("epoch", epochs, log=False), whole=True)
    y = frame_y(title, curves)
    paths = "".join(line(x.place(epochs[drawn]), y.place(run[drawn])) for run in curves.T)
    marks = [Mark("curve", paths, "one member")]
    if best is not None:
        pairs = [(epoch, run) for run, epoch in enumerate(best) if epoch]
        kept = [(e, curves[e - 1, r]) for e, r in pairs if np.isfinite(curves[e - 1, r])]
        if kept:
            at, value = (np.array(part, dtype=float) for part in zip(*kept, strict=True))
            marks.append(Mark("best", dots(x.place(at), y.place(value)), "epoch that was kept"))
    step = int(drawn[1] - drawn[0]) if len(drawn) > 2 else 1
    note = f"Every {step}th epoch is drawn." if step > 3 else ""
    note = {2: "Every other epoch is drawn.", 3: "Every third epoch is drawn."}.get(step, note)
    return Plot(name, f"{title[0].upper()}{title[1:]} by epoch", x, y, tuple(marks), note)
