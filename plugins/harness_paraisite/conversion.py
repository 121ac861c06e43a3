"""From the published pickles to rows in neutral form.

Tested on the published files of `Dataset1`, `Dataset2` and `MIX`. Of `AFLOW` only the targets
(`TC_AFLOW.pkl`, a plain list of numbers) were at hand; `structures_AFLOW.pkl` is taken to be a list
of structures like the other three, as the script that wrote it says. Neither file holds ids,
so AFLOW rows are numbered `AFLOW-1`, `AFLOW-2`, … in file order.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.plugin import DataError, read_pickled_structures, read_pickled_table, reduced_formula


def convert(name: str, targets: Path, structures: Path) -> list[dict[str, Any]]:
    """Pairs the published targets and structures of one dataset, by position.

    Args:
        name: the dataset's name.
        targets: the published `<name>.pkl` (a pandas frame) or `TC_AFLOW.pkl` (a list).
        structures: the published `structures_<name>.pkl`.

    Returns:
        Rows with `id`, `formula`, `kappa` (W/(m·K)), `lattice` (3 × 3, Å), `species` (a mapping
        symbol → occupancy where a site is disordered) and `frac_coords`. Numbers are not rounded.

    Raises:
        DataError: a file is refused, or does not hold what was expected.
    """
    labels = _read_labels(name, targets)
    crystals = read_pickled_structures(structures)
    if len(labels) != len(crystals):
        raise DataError(
            f"{targets} has {len(labels)} targets but {structures} has {len(crystals)} "
            "structures, so they cannot be paired. Fetch both files again."
        )
    return [
        {
            "id": row_id,
            "formula": formula or _formula(crystal["species"]),
            "kappa": kappa,
            **crystal,
        }
        for (row_id, formula, kappa), crystal in zip(labels, crystals, strict=True)
    ]


def _read_labels(name: str, targets: Path) -> list[tuple[str, str, float]]:
    """Ids, formulas (empty where the file has none) and κ."""
    columns: Mapping[str, list[Any]] = read_pickled_table(targets)
    if "" in columns:
        return [(f"{name}-{i}", "", kappa) for i, kappa in enumerate(columns[""], start=1)]
    try:
        rows = zip(columns["mpd_id"], columns["formula"], columns["TC"], strict=True)
        return [(_material_id(row_id), str(formula), float(tc)) for row_id, formula, tc in rows]
    except (KeyError, ValueError, TypeError) as problem:
        raise DataError(
            f"{targets} does not hold what the published file holds "
            f"({type(problem).__name__}: {problem}). Fetch the file again."
        ) from None


def _material_id(value: Any) -> str:
    """Materials Project ids in one spelling: Dataset2's file leaves the prefix out."""
    return f"mp-{str(value).removeprefix('mp-')}"


def _formula(species: list[Any]) -> str:
    """A disordered crystal has no formula here; the harness will report the row."""
    return reduced_formula(species) if all(isinstance(s, str) for s in species) else ""
