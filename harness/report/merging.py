"""One leaderboard of the submissions of many people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import BenchmarkError
from harness.escaping import markdown_text
from harness.plugin.cell import CELL, SUBMISSION
from harness.report.leaderboard import Leaderboard
from harness.report.submissions import Submission, facts_of
from harness.report.trust import (
    CheckedSubmission,
    Trust,
    in_words,
    manifest_digest,
    most_trusted,
)
from harness.results.records import PlanFile, PlannedCell
from harness.results.store import PLAN_FILE, RESULTS_FILE, Store
from harness.scoring.scores import SUBSETS, same_score

EQUAL, ALIKE = " = ", " ≈ "
"""Between the names of people who submitted one configuration: with the same scores, or not."""

Scores = dict[int, Mapping[Any, Any]]
Name = tuple[str, ...]
"""What tells a cell apart: the columns of `CELL`, and who submitted it."""


@dataclass(frozen=True, eq=False)
class _Part:
    """One submission, read.

    Attributes:
        name, line: as its card has it; what is said of it above the tables.
        plan: `plan.json`.
        leaderboard: its own leaderboard.
        scores: by key of a cell and run.
        trust: what a check has shown, by key of a cell.
    """

    name: str
    line: str
    plan: PlanFile
    leaderboard: Leaderboard
    scores: Mapping[str, Scores]
    trust: Mapping[str, Trust]


def merge(
    folders: Sequence[Path], name: str, checks: Mapping[str, CheckedSubmission] = {}
) -> Leaderboard:
    """Reads many submissions as one leaderboard.

    Cells are told apart by the column `submission` too. A configuration that several people
    submitted with the same scores is shown once, with all their names (`ada = bob`); where scores
    differ, every row names the others (`ada ≈ bob`), and a note says in which runs.

    Args:
        folders: one per submission.
        name: of the leaderboard.
        checks: what is known of submissions, by name; what is not named is unchecked.

    Raises:
        StoreError: a folder is no submission.
        BenchmarkError: they cannot stand in one table: other data by the same name, other root
            seeds (and so other test rows), no metric in common, or a name that is used twice.
    """
    import pandas as pd

    if not folders:
        raise BenchmarkError(f"The leaderboard {name!r} has no submission yet.")
    parts = [_read(folder, checks) for folder in folders]
    _check(parts)
    metrics = tuple(
        metric
        for metric in parts[0].leaderboard.metrics
        if all(metric in part.leaderboard.metrics for part in parts)
    )
    if not metrics:
        raise BenchmarkError("These submissions have no metric in common.")
    shown, notes, trust = _equal_cells(parts)
    runs = pd.concat(
        [part.leaderboard.runs.assign(**{SUBMISSION: part.name}) for part in parts],
        ignore_index=True,
    )
    pretraining: dict[tuple[str, str], tuple[str, ...]] = {}
    for part in parts:
        for weights, transfers in part.leaderboard.pretraining.items():
            known = pretraining.get(weights, ())
            pretraining[weights] = tuple(dict.fromkeys((*known, *transfers)))
    return Leaderboard(
        name=name,
        title=f"{name}: {len(parts)} submissions" if len(parts) > 1 else f"{name}: 1 submission",
        settings=_settings(parts),
        property_name=parts[0].leaderboard.property_name,
        metrics=metrics,
        unusable={k: v for part in parts for k, v in part.leaderboard.unusable.items()},
        pretraining=pretraining,
        cells=tuple({**cell, SUBMISSION: p.name} for p in parts for cell in p.leaderboard.cells),
        runs=runs,
        identity=(*CELL, SUBMISSION),
        shown_as=shown,
        notes=(*notes, *_own_notes(parts)),
        trust=trust,
        not_applicable={
            (*cell, part.name): runs
            for part in parts
            for cell, runs in part.leaderboard.not_applicable.items()
        },
        resampling=tuple(dict.fromkeys(k for part in parts for k in part.leaderboard.resampling)),
        leaky=tuple(dict.fromkeys(k for part in parts for k in part.leaderboard.leaky)),
    )


def _read(folder: Path, checks: Mapping[str, CheckedSubmission]) -> _Part:
    submission, store = Submission.read(folder), Store(folder)
    card = submission.card
    plan = store.read_plan()
    known = _known(submission, checks)
    trust: dict[str, Trust] = {
        cell.key: known.cells.get(cell.key, "unchecked") if known else "unchecked"
        for cell in plan.cells
    }
    training = plan.benchmark["training"]
    scores: dict[str, Scores] = {}
    for result in store.read_results():
        scores.setdefault(result.key, {})[result.run] = result.scores
    line = (
        f"- **{card.name}**: {markdown_text(card.title)} "
        f"({markdown_text(', '.join(card.authors))}; benchmark "
        f"{submission.manifest.benchmark}, {training['epochs']} epochs, {card.licence}; "
        f"{in_words(list(trust.values()))})"
    )
    if known and "unchecked" in trust.values():
        line += "".join(f"\n  - unchecked: {reason}" for reason in known.unchecked)
    return _Part(card.name, line, plan, Leaderboard.read(store), scores, trust)


def _known(
    submission: Submission, checks: Mapping[str, CheckedSubmission]
) -> CheckedSubmission | None:
    """What was checked of a submission, if what tables are made of is still what it was then."""
    known, folder = checks.get(submission.card.name), submission.folder
    if known is None or known.manifest != manifest_digest(folder):
        return None
    facts = submission.manifest.files
    same = all(facts_of(folder / name) == facts.get(name) for name in (PLAN_FILE, RESULTS_FILE))
    return known if same else None


def _check(parts: Sequence[_Part]) -> None:
    """Sees that the parts can stand in one table."""
    first = parts[0]
    datasets: dict[str, tuple[str, str]] = {}
    names: set[str] = set()
    for part in parts:
        if part.name in names:
            raise BenchmarkError(f"Two submissions are named {part.name!r}: rename one.")
        names.add(part.name)
        seeds = part.leaderboard.settings["seed"], first.leaderboard.settings["seed"]
        if seeds[0] != seeds[1]:
            raise BenchmarkError(
                f"{part.name} has the root seed {seeds[0]}, {first.name} {seeds[1]}: their test "
                "rows differ, and so their scores cannot stand in one table."
            )
        for dataset, facts in part.plan.datasets.items():
            digest, owner = datasets.setdefault(dataset, (facts.digest, part.name))
            if digest != facts.digest:
                raise BenchmarkError(
                    f"{part.name} and {owner} have other rows in the dataset {dataset!r}: their "
                    "scores cannot stand in one table."
                )


def _settings(parts: Sequence[_Part]) -> dict[str, Any]:
    return {
        "summary": "\n".join(part.line for part in parts),
        "runs": max(part.leaderboard.settings["runs"] for part in parts),
        "seed": parts[0].leaderboard.settings["seed"],
        "training": None,
        "training_on": {},
        "rows": {k: v for part in parts for k, v in part.leaderboard.settings["rows"].items()},
        "test_on": list(dict.fromkeys(t for p in parts for t in p.leaderboard.settings["test_on"])),
    }


def _equal_cells(
    parts: Sequence[_Part],
) -> tuple[dict[Name, dict[str, str]], tuple[str, ...], dict[Name, Trust]]:
    """Finds configurations that several people submitted: what tables show of them, and say.

    Where one person's scores could be checked, so are the same scores of another.
    """
    by_key: dict[str, list[tuple[_Part, PlannedCell]]] = {}
    for part in parts:
        for cell in part.plan.cells:
            by_key.setdefault(cell.key, []).append((part, cell))
    shown: dict[Name, dict[str, str]] = {}
    trust = {
        (*cell.named(), part.name): part.trust[cell.key]
        for part in parts
        for cell in part.plan.cells
    }
    counts: dict[str, list[list[int]]] = {}
    for key, several in by_key.items():
        if len(several) < 2:
            continue
        groups = _groups([part for part, _ in several], key)
        labels = [EQUAL.join(part.name for part in group) for group in groups]
        for part, cell in several:
            own = next(i for i, group in enumerate(groups) if part in group)
            others = [label for i, label in enumerate(labels) if i != own]
            name = (*cell.named(), part.name)
            shown[name] = {SUBMISSION: ALIKE.join([labels[own], *others])}
            trust[name] = most_trusted([equal.trust[key] for equal in groups[own]])
        first = several[0][0].scores.get(key, {})
        differ = {run for part, _ in several for run in _differing(first, part.scores.get(key, {}))}
        people = ", ".join(part.name for part, _ in several)
        counts.setdefault(people, []).append(sorted(differ))
    return shown, tuple(_notes(counts)), trust


def _groups(parts: Sequence[_Part], key: str) -> list[list[_Part]]:
    """Puts those together whose scores of a cell are the same in all runs."""
    groups: list[list[_Part]] = []
    for part in parts:
        for group in groups:
            if not _differing(group[0].scores.get(key, {}), part.scores.get(key, {})):
                group.append(part)
                break
        else:
            groups.append([part])
    return groups


def _differing(one: Scores, other: Scores) -> list[int]:
    """Returns the runs in which two people's scores of one configuration differ."""
    return [
        run
        for run in sorted({*one, *other})
        if run not in one or run not in other or not _same(one[run], other[run])
    ]


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    for subset in SUBSETS:
        for name in one[subset].keys() & other[subset].keys():
            if not same_score(one[subset][name], other[subset][name]):
                return False
    return True


def _own_notes(parts: Sequence[_Part]) -> Iterator[str]:
    """Yields what tables of submissions say, once; with whose it is, unless all say it."""
    said: dict[str, list[str]] = {}
    for part in parts:
        for note in part.leaderboard.notes:
            said.setdefault(note, []).append(part.name)
    for note, names in said.items():
        yield note if len(names) == len(parts) else f"{', '.join(names)}: {note}"


def _notes(counts: Mapping[str, list[list[int]]]) -> Iterator[str]:
    for people, cells in counts.items():
        differing = [runs for runs in cells if runs]
        text = f"{people} submitted {len(cells)} cells of the same configuration"
        if not differing:
            yield f"{text}, with equal scores in all runs"
            continue
        runs = sorted({run for own in differing for run in own})
        yield (
            f"{text}: {len(cells) - len(differing)} with equal scores in all runs, "
            f"{len(differing)} that differ (runs {' '.join(map(str, runs))})"
        )
