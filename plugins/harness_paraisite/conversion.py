"""From the published pickles to rows in neutral form.

Tested on the published files of `Dataset1`, `Dataset2` and `MIX`. Of `AFLOW` only the targets
(`TC_AFLOW.pkl`, a plain list of numbers) were at hand; `structures_AFLOW.pkl` is taken to be a list
of structures like the other three, as the script that wrote it says. Neither file holds ids,
so AFLOW rows are numbered `AFLOW-1`, `AFLOW-2`, … in file order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness import DataError, reduced_formula
from harness_paraisite.published_pickles import Record, kind, read_pickle

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NUMBER_TYPES = frozenset({"f4", "f8", "i4", "i8"})


@dataclass(frozen=True)
class _Targets:
    ids: list[str]
    formulas: list[str] | None
    kappa: list[float]


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
    try:
        labels = _read_targets(name, read_pickle(targets))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as problem:
        raise _unexpected(targets, problem) from None
    try:
        crystals = [_read_structure(structure) for structure in read_pickle(structures)]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as problem:
        raise _unexpected(structures, problem) from None
    if len(labels.kappa) != len(crystals):
        raise DataError(
            f"{targets} has {len(labels.kappa)} targets but {structures} has {len(crystals)} "
            "structures, so they cannot be paired. Fetch both files again."
        )
    formulas = labels.formulas or [_formula(crystal["species"]) for crystal in crystals]
    return [
        {"id": row_id, "formula": formula, "kappa": kappa, **crystal}
        for row_id, formula, kappa, crystal in zip(
            labels.ids, formulas, labels.kappa, crystals, strict=True
        )
    ]


def _unexpected(path: Path, problem: Exception) -> DataError:
    return DataError(
        f"{path} does not hold what the published file holds "
        f"({type(problem).__name__}: {problem}). Fetch the file again."
    )


def _expect(value: Any, *kinds: str) -> Record:
    if kind(value) not in kinds or not isinstance(value, Record):
        raise ValueError(f"expected {' or '.join(kinds)}, found {kind(value)}")
    return value


def _formula(species: list[Any]) -> str:
    """A disordered crystal has no formula here; the harness will report the row."""
    return reduced_formula(species) if all(isinstance(s, str) for s in species) else ""


# --- targets ----------------------------------------------------------------------------------


def _read_targets(name: str, content: Any) -> _Targets:
    if isinstance(content, list):
        numbers = [_number(value) for value in content]
        return _Targets([f"{name}-{i}" for i in range(1, len(numbers) + 1)], None, numbers)
    columns = _read_frame(content)
    return _Targets(
        ids=[_material_id(value) for value in columns["mpd_id"]],
        formulas=[str(value) for value in columns["formula"]],
        kappa=[_number(value) for value in columns["TC"]],
    )


def _material_id(value: Any) -> str:
    """Materials Project ids in one spelling: Dataset2's file leaves the prefix out."""
    return f"mp-{str(value).removeprefix('mp-')}"


def _read_frame(record: Any) -> dict[str, list[Any]]:
    """A pandas frame's columns: its manager holds blocks (columns × rows) and where they belong."""
    manager = _expect(_expect(record, "DataFrame").state["_mgr"], "BlockManager")
    blocks, axes = manager.args
    names = _read_array(_expect(axes[0], "_new_Index").args[1]["data"]).tolist()
    columns: dict[str, list[Any]] = {}
    for block in blocks:
        values, places, _ = _expect(block, "_unpickle_block").args
        where = _read_places(places)
        for place, column in zip(where, _read_array(values), strict=True):
            columns[names[place]] = column.tolist()
    return columns


def _read_places(record: Any) -> Iterable[int]:
    if kind(record) == "slice":
        return range(*record.args)
    return [int(place) for place in _read_array(record)]


# --- arrays -----------------------------------------------------------------------------------


def _read_array(record: Any) -> NDArray[Any]:
    """A numpy array, by either of the two ways in which numpy pickles one."""
    if kind(_expect(record, "_reconstruct", "_frombuffer")) == "_frombuffer":
        content, dtype, shape, order = record.args
    else:
        _, shape, dtype, fortran, content = record.state
        order = "F" if fortran else "C"
    if isinstance(content, list):
        flat = np.empty(len(content), dtype=object)
        for place, value in enumerate(content):
            flat[place] = value
    else:
        flat = np.frombuffer(content, dtype=_number_type(dtype))
    # refuses a shape that does not fit the content, before anything is allocated
    return flat.reshape(shape, order=order)


def _number_type(record: Any) -> np.dtype[Any]:
    code: str = _expect(record, "dtype").args[0]
    byte_order: str = record.state[1]
    if code not in _NUMBER_TYPES or byte_order not in ("<", ">"):
        raise ValueError(f"an array of type {byte_order}{code}")
    return np.dtype(byte_order + code)


def _number(value: Any) -> float:
    if kind(value) == "scalar":
        dtype, content = value.args
        return float(np.frombuffer(content, dtype=_number_type(dtype))[0])
    return float(value)


# --- structures -------------------------------------------------------------------------------


def _read_structure(record: Any) -> dict[str, Any]:
    state = _expect(record, "Structure").state
    sites = [_expect(site, "PeriodicSite").state for site in state["_sites"]]
    return {
        "lattice": _read_array(_expect(state["_lattice"], "Lattice").state["_matrix"]).tolist(),
        "species": [_read_species(site["_species"]) for site in sites],
        "frac_coords": [_read_array(site["_frac_coords"]).tolist() for site in sites],
    }


def _read_species(record: Any) -> str | dict[str, float]:
    """The symbol of a fully occupied site, else what occupies it."""
    amounts = _expect(record, "Composition").state["_data"]
    occupants = {
        str(_expect(element, "Element").args[0]): _number(amount)
        for element, amount in amounts.items()
    }
    if list(occupants.values()) == [1.0]:
        return next(iter(occupants))
    return occupants
