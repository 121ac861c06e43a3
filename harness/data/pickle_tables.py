"""What pickles of the published kind hold: tables of targets, and lists of structures.

A pickled pandas frame, list of numbers or list of pymatgen structures is read from the records that
`pickles` leaves in their place; neither pandas nor pymatgen takes part, so their versions, and that
of the file, do not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.data.pickles import PickledObject, kind, read_pickle
from harness.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NUMBER_TYPES = frozenset({"f4", "f8", "i4", "i8"})
_MALFORMED = (ValueError, TypeError, KeyError, IndexError, AttributeError)


def read_pickled_table(path: Path) -> Mapping[str, list[Any]]:
    """Reads a pickled pandas frame, or a list of numbers.

    Returns:
        The columns by name, with plain values; a list is the one column `""`.

    Raises:
        DataError: the file is refused, or holds something else.
    """
    content = read_pickle(path)
    try:
        if isinstance(content, list):
            return {"": [_number(value) for value in content]}
        return _read_frame(content)
    except _MALFORMED as problem:
        raise _unexpected(path, "a pandas frame or a list of numbers", problem) from None


def read_pickled_structures(path: Path) -> list[dict[str, Any]]:
    """Reads a pickled list of pymatgen structures.

    Returns:
        Mappings with `lattice` (3 × 3, Å), `species` (a mapping symbol → occupancy where a site is
        disordered) and `frac_coords`. Numbers are not rounded.

    Raises:
        DataError: the file is refused, or holds something else.
    """
    content = read_pickle(path)
    try:
        return [_read_structure(structure) for structure in content]
    except _MALFORMED as problem:
        raise _unexpected(path, "a list of pymatgen structures", problem) from None


def _unexpected(path: Path, expected: str, problem: Exception) -> DataError:
    return DataError(
        f"{path} does not hold {expected} ({type(problem).__name__}: {problem}). "
        "Fetch the file again, or write the data in another form: JSON lines, or CIF files and a "
        "CSV."
    )


def _expect(value: Any, *kinds: str) -> PickledObject:
    if kind(value) not in kinds or not isinstance(value, PickledObject):
        raise ValueError(f"expected {' or '.join(kinds)}, found {kind(value)}")
    return value


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
            columns[str(names[place])] = [_plain(value) for value in column.tolist()]
    return {str(name): columns[str(name)] for name in names}


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


def _plain(value: Any) -> Any:
    """A numpy scalar as a plain number; anything else as it is."""
    if kind(value) != "scalar":
        return value
    dtype, content = value.args
    return np.frombuffer(content, dtype=_number_type(dtype))[0].item()


def _number(value: Any) -> float:
    return float(_plain(value))


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
