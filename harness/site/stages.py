"""What the record of a stage says, laid out: settings, manifest, runs, learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.site.plots import Mark, Plot, dots, frame_x, frame_y, line, thin
from harness.site.tables import Column, Table, count, flat, significant

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.store import Store

    Floats = NDArray[np.float64]

SETTINGS = ("model", "training", "freeze", "groups", "alongside", "weights", "transferred")
"""What of a stage's record says how it was to be trained; the rest says how it went."""

PER_RUN = ("train_rows", "validation_rows", "best_epoch", "skipped_updates")
"""Lists of a stage's record with one entry per run."""

ELSEWHERE = ("title", "runs", "scalers", "history", *PER_RUN)
"""What is shown in another form."""


@dataclass(frozen=True)
class StagePart:
    """One stage of a cell's chain.

    Attributes:
        title, key: of the stage.
        settings: how it was to be trained.
        manifest: what it depended on and how it went.
        runs: one row per run; None where its record is missing.
        curves: of training; none where the head is fitted in closed form.
        missing: the file that is not there; empty if it is.
    """

    title: str
    key: str
    settings: Mapping[str, str]
    manifest: Mapping[str, str]
    runs: Table | None
    curves: Sequence[Plot]
    missing: str = ""


def read_stage(store: Store, key: str) -> StagePart:
    """Reads a stage's record, where it was kept."""
    file = store.stage_folder(key) / "stage.json"
    if not file.is_file():
        path = file.relative_to(store.folder).as_posix()
        return StagePart("stage", key, {}, {}, None, (), path)
    record = store.stage_record(key)
    settings = {name: record[name] for name in SETTINGS if name in record}
    manifest = {n: value for n, value in record.items() if n not in (*SETTINGS, *ELSEWHERE)}
    return StagePart(
        record["title"], key, flat(settings), flat(manifest), _runs(record), _curves(key, record)
    )


def _runs(record: Mapping[str, Any]) -> Table:
    lists = {name: record[name] for name in PER_RUN if isinstance(record.get(name), list)}
    scalers = record.get("scalers") or []
    titles = ("run", *(name.replace("_", " ") for name in lists))
    columns = [Column(title, "number" if place else "name") for place, title in enumerate(titles)]
    columns += [Column(f"scaler {name}", "number") for name in ("mean", "std") if scalers]
    rows = []
    for position, run in enumerate(record["runs"]):
        entries = [count(run), *(count(values[position]) for values in lists.values())]
        if scalers:
            entries += [significant(scalers[position][name], 4) for name in ("mean", "std")]
        rows.append(tuple(entries))
    return Table(f"stage-{record['title']}", "", tuple(columns), tuple(rows))


def _curves(key: str, record: Mapping[str, Any]) -> tuple[Plot, ...]:
    history = record.get("history")
    if not history:
        return ()
    training = record.get("training") or {}
    loss = _draw(f"loss-{key}", f"training loss ({training.get('loss', 'loss')})",
                 history["train_loss"], None)  # fmt: skip
    score = _draw(
        f"score-{key}", "score on validation rows", history["score"], record.get("best_epoch")
    )
    return (loss, score)


def _draw(name: str, title: str, values: Sequence[Sequence[Any]], best: Any) -> Plot:
    """Draws one line per run; where `best` is given, with a dot on the epoch that was kept."""
    curves = np.array([[np.nan if v is None else v for v in row] for row in values], dtype=float)
    curves[~np.isfinite(curves)] = np.nan
    epochs = np.arange(1.0, len(curves) + 1)
    drawn = thin(len(curves)).astype(int)
    x = replace(frame_x("epoch", epochs, log=False), whole=True)
    y = frame_y(title, curves)
    paths = "".join(line(x.place(epochs[drawn]), y.place(run[drawn])) for run in curves.T)
    marks = [Mark("curve", paths, "one run")]
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
