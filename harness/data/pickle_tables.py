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

_NUMBER_TYPES = frozenset("b1 f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8".split())
_ARRAYS = ("_reconstruct", "_frombuffer")
_MALFORMED = (ValueError, TypeError, KeyError, IndexError, AttributeError)


def read_pickled_table(path: Path) -> Mapping[str, list[Any]]:
    """Reads a pickled pandas frame or series, an array or a list of numbers.

    Returns:
        The columns by name, with numbers, texts, truth values and None; a list or array is the one
        column `""`. Columns of other things (dates, say) are left out.

    Raises:
        DataError: the file is refused, or holds something else.
    """
    content = read_pickle(path)
    try:
        if isinstance(content, list):
            return {"": [_number(value) for value in content]}
        if kind(content) in _ARRAYS:
            return {"": [_number(value) for value in _read_array(content).tolist()]}
        if kind(content) == "Series":
            name = content.state["_name"]
            return {"" if name is None else str(name): list(map(_plain, _read_series(content)))}
        return _read_frame(content)
    except _MALFORMED as problem:
        raise _unexpected(path, "a pandas frame or a list of numbers", problem) from None


def read_pickled_structures(path: Path) -> list[dict[str, Any]]:
    """Reads a pickled list, series or array of pymatgen structures, or of what `as_dict` makes.

    Returns:
        Mappings with `lattice` (3 × 3, Å), `species` (a mapping symbol → occupancy where a site is
        disordered) and `frac_coords`. Numbers are not rounded.

    Raises:
        DataError: the file is refused, or holds something else.
    """
    content = read_pickle(path)
    try:
        if kind(content) == "Series":
            content = _read_series(content)
        elif kind(content) in _ARRAYS:
            content = _read_array(content).tolist()
        if not isinstance(content, list):
            raise ValueError(f"expected a list, found {kind(content)}")
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
    names = _read_index(axes[0])
    columns: dict[str, list[Any]] = {}
    for block in blocks:
        values, places, _ = _expect(block, "_unpickle_block").args
        where = _read_places(places)
        read = _read_column(values)
        if read is not None:
            for place in where:  # of such an array every column is a block of its own
                columns[str(names[place])] = list(map(_plain, read))
        elif kind(values) in _ARRAYS:
            for place, column in zip(where, _read_array(values), strict=True):
                columns[str(names[place])] = list(map(_plain, column.tolist()))
    return {str(name): columns[str(name)] for name in names if str(name) in columns}


def _read_series(record: PickledObject) -> list[Any]:
    """What is in a series; its manager holds axes, then arrays."""
    _, (values, *_), *_ = _expect(record.state["_mgr"], "SingleBlockManager").state
    column = _read_column(values)
    return _read_array(values).tolist() if column is None else column


def _read_index(record: Any) -> list[Any]:
    values = _expect(record, "_new_Index").args[1]["data"]
    column = _read_column(values)
    return _read_array(values).tolist() if column is None else column


def _read_column(record: Any) -> list[Any] | None:
    """The values of one of pandas' own arrays; None where it is none of the known ones."""
    if kind(record) == "ArrowStringArray":
        return _read_arrow(record.state["_pa_array"])
    if kind(record) in ("FloatingArray", "IntegerArray", "BooleanArray"):
        values, missing = (_read_array(record.state[key]).tolist() for key in ("_data", "_mask"))
        return [None if gone else value for value, gone in zip(values, missing, strict=True)]
    if kind(record) == "__pyx_unpickle_NDArrayBacked":
        what, content = record.args[0].__name__, record.state
        if what == "Categorical":
            names = _read_index(_expect(content[0], "CategoricalDtype").state["categories"])
            return [names[code] if code >= 0 else None for code in _read_array(content[1]).tolist()]
        if what == "StringArray":
            return list(_read_array(content[1]).tolist())
    return None


def _read_arrow(record: Any) -> list[Any]:
    """Texts of an Arrow array, or of the chunks of one."""
    import pyarrow as pa

    if kind(record) == "chunked_array":
        return [text for chunk in record.args[0] for text in _read_arrow(chunk)]
    stored, length, nulls, offset, buffers, *_ = _expect(record, "_restore_array").args[0]
    types = {"string": pa.StringArray, "large_string": pa.LargeStringArray}
    named = str(_expect(stored, "type_for_alias").args[0])
    if named not in types:
        raise ValueError(f"an Arrow array of {named}")
    validity, offsets, data = (
        None
        if buffer is None
        else pa.py_buffer(bytes(_expect(buffer, "py_buffer").args[0].args[0]))
        for buffer in buffers
    )
    array = types[named].from_buffers(length, offsets, data, validity, nulls, offset)
    try:
        array.validate(full=True)  # before anything follows an offset
    except pa.ArrowInvalid as problem:
        raise ValueError(str(problem)) from None
    return list(array.to_pylist())


def _read_places(record: Any) -> Iterable[int]:
    if kind(record) == "slice":
        return range(*record.args)
    return [int(place) for place in _read_array(record)]


# --- arrays -----------------------------------------------------------------------------------


def _read_array(record: Any) -> NDArray[Any]:
    """A numpy array, by either of the two ways in which numpy pickles one."""
    if kind(_expect(record, *_ARRAYS)) == "_frombuffer":
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
    if code not in _NUMBER_TYPES or byte_order not in ("<", ">", "|"):
        raise ValueError(f"an array of type {byte_order}{code}")
    return np.dtype(byte_order + code)


def _plain(value: Any) -> Any:
    """A number, text or truth value as it is; None for anything else.

    Other things cannot be a target or an id, and lists that share lists are small in a pickle and
    larger than any memory once they are written out.
    """
    if kind(value) == "scalar":
        dtype, content = value.args
        value = np.frombuffer(content, dtype=_number_type(dtype))[0].item()
    return value if isinstance(value, str | int | float) else None


def _number(value: Any) -> float:
    return float(_plain(value))


def _read_numbers(record: Any) -> Any:
    """The numbers of an array, as nested lists.

    Raises:
        ValueError: it is an array of objects.
    """
    values = _read_array(record)
    if values.dtype == object:
        raise ValueError("an array of objects where numbers belong")
    return values.tolist()


# --- structures -------------------------------------------------------------------------------


def _read_structure(record: Any) -> dict[str, Any]:
    if isinstance(record, dict):
        return _read_dict(record)
    state = _expect(record, "Structure").state
    sites = [_expect(site, "PeriodicSite").state for site in state["_sites"]]
    return {
        "lattice": _read_numbers(_expect(state["_lattice"], "Lattice").state["_matrix"]),
        "species": [_read_species(site["_species"]) for site in sites],
        "frac_coords": [_read_numbers(site["_frac_coords"]) for site in sites],
    }


def _read_dict(structure: Mapping[str, Any]) -> dict[str, Any]:
    """What pymatgen's `Structure.as_dict` makes."""
    return {
        "lattice": [list(map(_number, row)) for row in structure["lattice"]["matrix"]],
        "species": [
            _occupants({_symbol(o["element"]): _number(o["occu"]) for o in site["species"]})
            for site in structure["sites"]
        ],
        "frac_coords": [list(map(_number, site["abc"])) for site in structure["sites"]],
    }


def _read_species(record: Any) -> str | dict[str, float]:
    amounts = _expect(record, "Composition").state["_data"]
    return _occupants({_read_element(e): _number(amount) for e, amount in amounts.items()})


def _occupants(amounts: dict[str, float]) -> str | dict[str, float]:
    """The symbol of a fully occupied site, else what occupies it."""
    return next(iter(amounts)) if list(amounts.values()) == [1.0] else amounts


def _read_element(record: Any) -> str:
    """The symbol of an element, or of a species, which is one with an oxidation state."""
    element = record.state["_el"] if kind(record) == "Species" else record
    return _symbol(_expect(element, "Element").args[0])


def _symbol(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected the symbol of an element, found {kind(value)}")
    return value
