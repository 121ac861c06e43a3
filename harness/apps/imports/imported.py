"""Datasets that the user has imported: a folder each, with the rows in neutral form and the card.

`<imports>/<name>/` holds `card.toml`, `rows.jsonl.gz` and, where rows were left out,
`rejected.csv`. It is there as a whole or not at all, also while another takes its place; it can be
copied to a colleague as it is. The plugin `imported` offers what lies there.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.data.neutral import read_neutral, write_neutral
from harness.errors import DataError, StoreError
from harness.escaping import csv_text
from harness.files import new_folder, remove_folder, replacing_folder, sweep
from harness.plugin.dataset import DatasetSpec
from harness.plugin.locations import Locations
from harness.registry.validation import NAME

if TYPE_CHECKING:
    from harness.plugin.dataset import Card

CARD_FILE = "card.toml"
ROWS_FILE = "rows.jsonl.gz"
REJECTED_FILE = "rejected.csv"


@dataclass(frozen=True)
class RejectedRow:
    """A row of a source that was not imported.

    Attributes:
        place: where it stands, as `kappa.csv, line 7`.
        id: what it is called, if that can be told.
        reason: why it cannot be used.
    """

    place: str
    id: str
    reason: str


def imported_datasets(locations: Locations | None = None) -> list[DatasetSpec]:
    """Returns what lies in the user's folder of imported datasets, by name.

    Nothing is read: damage is an error of the one dataset, when its card or rows are needed.

    Raises:
        OSError: there is such a folder, and it cannot be listed.
    """
    home = (locations or Locations()).imports
    sweep(home)  # an import that was killed may have moved a dataset aside
    folders = sorted(home.iterdir()) if home.is_dir() else []
    return [
        DatasetSpec(folder.name, folder / CARD_FILE, load=partial(_load, folder))
        for folder in folders
        if NAME.fullmatch(folder.name) and folder.is_dir()
    ]


def _load(folder: Path, locations: Locations) -> Iterator[Mapping[str, Any]]:
    """Rows lie where the dataset was found, whatever other folders are searched."""
    path = folder / ROWS_FILE
    if not path.is_file():
        raise DataError(
            f"The imported dataset {folder.name!r} is damaged: {path} does not exist. Import it "
            f"again with --replace, or remove it: harness datasets remove {folder.name}."
        )
    return read_neutral(path)


def write_imported(
    name: str,
    card: Card,
    rows: Iterable[Mapping[str, Any]],
    rejected: Sequence[RejectedRow],
    locations: Locations,
    *,
    overwrite: bool,
) -> Path:
    """Writes an imported dataset and returns its folder.

    Args:
        name: of the dataset.
        card: of the dataset.
        rows: in neutral form.
        rejected: those that are left out.
        locations: where imported datasets lie.
        overwrite: put it in the place of one of that name. Otherwise there must be none, and of
            several imports at once one succeeds.

    Raises:
        DataError: there is one of that name, or the folder cannot be written; what was there before
            is still there.
    """
    target = locations.imports / name
    with _explained(target):
        locations.imports.mkdir(parents=True, exist_ok=True)
        with replacing_folder(target) if overwrite else new_folder(target) as draft:
            write_neutral(draft / ROWS_FILE, rows)
            if rejected:
                _write_rejected(draft / REJECTED_FILE, rejected)
            _write_card(draft / CARD_FILE, card)
    return target


def remove_imported(name: str, locations: Locations | None = None) -> Path:
    """Removes an imported dataset and returns the folder that it lay in.

    Raises:
        DataError: there is none of that name, or it cannot be removed.
    """
    locations = locations or Locations()
    if name not in {spec.name for spec in imported_datasets(locations)}:
        known = ", ".join(spec.name for spec in imported_datasets(locations)) or "(none)"
        raise DataError(
            f"No dataset {name!r} was imported, so it cannot be removed. Imported: {known}."
        )
    target = locations.imports / name
    with _explained(target):
        remove_folder(target)
    return target


@contextmanager
def _explained(target: Path) -> Iterator[None]:
    try:
        yield
    except StoreError:
        raise DataError(
            f"A dataset {target.name!r} was imported meanwhile, by somebody else: choose another "
            "name, or put this one in its place with --replace."
        ) from None
    except OSError as problem:
        raise DataError(
            f"{target} cannot be written: {problem.strerror or problem}. Make its folder writable, "
            "or point $HARNESS_IMPORTS to another."
        ) from None


def _write_card(path: Path, card: Card) -> None:
    import tomli_w

    facts = card.model_dump(exclude_defaults=True, exclude_none=True)
    path.write_text(tomli_w.dumps(facts, multiline_strings=True), encoding="utf-8")


def _write_rejected(path: Path, rejected: Sequence[RejectedRow]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("place", "id", "reason"))
        writer.writerows(map(csv_text, (row.place, row.id, row.reason)) for row in rejected)
