"""CIF: read by pymatgen, held to what the file itself says of formula and symmetry.

A parser fills gaps in silence: a setting of the space group that the file does not name, a site
without an element, coordinates of three digits that no longer fall on their own images. So sites
are looked at first; settings and tolerances are tried in a settled order; and a structure is taken
that has the file's own sum formula and no two atoms on one spot. Where none has, it is refused.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.data.row_checks import ISOTOPES, check_geometry
from harness.plugin.crystal import SYMBOLS, Crystal
from harness.reading import parse_number

if TYPE_CHECKING:
    import gemmi
    from pymatgen.core.composition import Composition
    from pymatgen.core.structure import Structure

TOLERANCES = (1e-4, 1e-3, 5e-3)
"""How far apart images of a site may be that are one atom, in fractions of the lattice vectors, in
the order in which they are tried: the last are for coordinates of two or three digits."""

CELL_TOLERANCE = 0.02
"""How far lengths (relative) and angles may be from what the space group asks for."""

OPERATIONS = (
    "_symmetry_equiv_pos_as_xyz",
    "_space_group_symop_operation_xyz",
    "_space_group_symop.operation_xyz",
)
GROUP_NAMES = (
    "_space_group_name_H-M_alt",
    "_symmetry_space_group_name_H-M",
    "_space_group_name_Hall",
)
GROUP_NUMBERS = ("_space_group_IT_number", "_symmetry_Int_Tables_number")
ABSENT = ("", "?", ".")

_ELEMENTS = frozenset((*SYMBOLS, *ISOTOPES))
_TYPE_SYMBOL = re.compile(r"([A-Za-z]{1,2})(?:\d*\.?\d*[+-]\d*|[+-]?\d*)")
_UNCERTAINTY = re.compile(r"\(\d+\)$")
_LABEL = re.compile(r"([A-Z][a-z]?)")


@dataclass(frozen=True)
class _Reading:
    """One way to read a file, and what came of it.

    Attributes:
        structure: as pymatgen has it.
        objection: what speaks against it; empty where nothing does.
        remarks: what does not, but a user should know.
    """

    structure: Structure
    objection: str
    remarks: tuple[str, ...]


def read_cif(text: str) -> tuple[Structure, tuple[str, ...]]:
    """Reads the one structure of a CIF block.

    Returns:
        The structure, and remarks: what the file says that does not fit, and is not decisive.

    Raises:
        ValueError: it cannot be read, or what comes out is not what the file says.
    """
    from pymatgen.io.cif import CifFile

    blocks = [
        dict(block.data)
        for block in CifFile.from_str(text).data.values()
        if any(key.startswith("_atom_site_") for key in block.data)
    ]
    if not blocks:
        raise ValueError("no atoms: the file has no _atom_site")
    block = blocks[0]
    elements = _check_sites(block)
    _refuse_magnetic(block)
    readings = [_read_in_setting(block, elements, operations) for operations in _settings(block)]
    accepted = [reading for reading in readings if not reading.objection]
    if not accepted:
        raise ValueError(readings[0].objection)
    fewest = min(len(reading.remarks) for reading in accepted)
    found, *others = [reading for reading in accepted if len(reading.remarks) == fewest]
    if not all(_is_same(found.structure, other.structure) for other in others):
        raise ValueError(
            f"the file does not say in which setting of {_text(block, GROUP_NAMES)!r} it is "
            "written, and more than one would fit: list the operations"
        )
    return found.structure, found.remarks


def _is_same(one: Structure, other: Structure) -> bool:
    from pymatgen.analysis.structure_matcher import StructureMatcher

    return bool(StructureMatcher(scale=False).fit(one, other))


def _refuse_magnetic(block: Mapping[str, Any]) -> None:
    if any(key.startswith("_space_group_symop_magn") for key in block):
        raise ValueError("a magnetic structure: write it without moments, in its space group")


def _read_in_setting(
    block: Mapping[str, Any], elements: Sequence[str], operations: Sequence[str]
) -> _Reading:
    """Reads with the smallest tolerance that nothing speaks against; else with the smallest."""
    readings = []
    for tolerance in TOLERANCES:
        structure = _expand(block, elements, operations, tolerance)
        reading = _judge(block, structure)
        if not reading.objection:
            return reading
        readings.append(reading)
    return readings[0]


# --- sites ------------------------------------------------------------------------------------


def _check_sites(block: Mapping[str, Any]) -> list[str]:
    """Returns the element of every site.

    Raises:
        ValueError: a site has none, an occupancy that is not known, or no coordinates.
    """
    labels = _column(block, "_atom_site_label")
    types = _column(block, "_atom_site_type_symbol")
    count = max(len(labels), len(types))
    elements = []
    for number in range(count):
        label = labels[number] if labels else types[number]
        written = types[number] if types else None
        elements.append(_element_of(label, written))
        occupancy = _column(block, "_atom_site_occupancy")
        if occupancy and occupancy[number] == "?":
            raise ValueError(f"the occupancy of site {label!r} is unknown (`?`)")
        if occupancy and occupancy[number] not in ABSENT and _number(occupancy[number]) < 0:
            raise ValueError(f"the occupancy of site {label!r} is {occupancy[number]}")
        for axis in "xyz":
            coordinate = _column(block, f"_atom_site_fract_{axis}")
            if not coordinate:
                raise ValueError("no fractional coordinates: the file has no _atom_site_fract_x, …")
            if coordinate[number] in ABSENT:
                raise ValueError(f"site {label!r} has no coordinates")
            _number(coordinate[number])
    return elements


def _column(block: Mapping[str, Any], key: str) -> list[str]:
    values = block.get(key, [])
    return [str(value) for value in ([values] if isinstance(values, str) else values)]


def _element_of(label: str, written: str | None) -> str:
    """The element that a site says it has: in its type where it has one, else in its label.

    Raises:
        ValueError: it is none, such as `?`, a dummy, or a group of atoms such as OH.
    """
    if written is not None:
        match = _TYPE_SYMBOL.fullmatch(written)
        symbol = match[1].capitalize() if match else ""
    else:
        match = _LABEL.match(label)
        symbol = match[1] if match else ""
        symbol = symbol if symbol in _ELEMENTS else symbol[:1]
    if symbol not in _ELEMENTS:
        raise ValueError(f"site {label!r} has no element: its type is {written or label!r}")
    return symbol


# --- symmetry -----------------------------------------------------------------------------------


def _settings(block: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yields the operations to try: the file's own, else those of every setting of its group.

    Raises:
        ValueError: the file names a group that there is not.
    """
    for key in OPERATIONS:
        if own := _column(block, key):
            yield own
            return
    name = _text(block, GROUP_NAMES)
    number = _text(block, GROUP_NUMBERS)
    if not name and not number:
        yield ["x, y, z"]
        return
    found = _find_groups(name, number, _cell(block))
    if not found:
        raise ValueError(
            f"there is no space group {name or number!r}, and the file lists no operations"
        )
    for group in found:
        yield [operation.triplet() for operation in group.operations()]


def _find_groups(name: str, number: str, cell: Sequence[float]) -> list[gemmi.SpaceGroup]:
    """The settings that a file may mean, by name and cell; by number where there is no name."""
    import gemmi

    _, _, _, alpha, _, gamma = cell
    spelt = re.sub(r"\s*:\s*", ":", name.replace("_", ""))
    named = gemmi.find_spacegroup_by_name(spelt, alpha, gamma) if spelt else None
    if named is None and spelt:
        named = next((g for g in gemmi.spacegroup_table() if g.hall == spelt), None)
    if named is None and number.isdigit() and 1 <= int(number) <= 230:
        named = gemmi.find_spacegroup_by_number(int(number))
    if named is None:
        return []
    if number.isdigit() and int(number) != named.number:
        raise ValueError(
            f"the file names the space group {name!r}, which is number {named.number}, and the "
            f"number {number}: which is meant?"
        )
    if not gemmi.UnitCell(*cell).is_compatible_with_spacegroup(named, CELL_TOLERANCE):
        raise ValueError(
            f"the cell ({', '.join(f'{value:g}' for value in cell)}) has not the symmetry of the "
            f"space group {name or number!r}"
        )
    if ":" in spelt or named.ext not in ("1", "2"):
        return [named]
    return [g for g in gemmi.spacegroup_table() if g.number == named.number and g.hm == named.hm]


def _text(block: Mapping[str, Any], keys: Sequence[str]) -> str:
    values = (str(block[key]).strip().strip("'\"") for key in keys if key in block)
    return next((value for value in values if value not in ABSENT), "")


def _cell(block: Mapping[str, Any]) -> list[float]:
    lengths = [f"_cell_length_{axis}" for axis in "abc"]
    angles = [f"_cell_angle_{angle}" for angle in ("alpha", "beta", "gamma")]
    missing = [key for key in (*lengths, *angles) if str(block.get(key, "?")) in ABSENT]
    if missing:
        raise ValueError(f"the file has no {missing[0]}")
    return [_number(str(block[key])) for key in (*lengths, *angles)]


def _number(text: str) -> float:
    """Reads a number that may have its uncertainty behind it, as `5.64(2)`."""
    return parse_number(_UNCERTAINTY.sub("", text))


# --- the structure --------------------------------------------------------------------------------


def _expand(
    block: Mapping[str, Any],
    elements: Sequence[str],
    operations: Sequence[str],
    tolerance: float,
) -> Structure:
    """Reads what matters of a block with pymatgen's parser, under given operations."""
    from pymatgen.io.cif import CifBlock, CifParser

    cell = dict(zip(_CELL_KEYS, map(repr, _cell(block)), strict=True))
    sites = {
        "_atom_site_label": [f"{symbol}{n}" for n, symbol in enumerate(elements, start=1)],
        "_atom_site_type_symbol": list(elements),
        **{key: _column(block, key) for key in _COORDINATE_KEYS},
    }
    if occupancy := _column(block, "_atom_site_occupancy"):
        sites["_atom_site_occupancy"] = ["1" if value in ABSENT else value for value in occupancy]
    symmetry = {OPERATIONS[0]: list(operations)}
    plain = CifBlock({**cell, **symmetry, **sites}, [list(symmetry), list(sites)], "structure")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what matters is checked here
        parser = CifParser.from_str(str(plain), site_tolerance=tolerance)
        (structure,) = parser.parse_structures(primitive=False, on_error="raise")
    return structure


_CELL_KEYS = (
    *(f"_cell_length_{axis}" for axis in "abc"),
    *(f"_cell_angle_{angle}" for angle in ("alpha", "beta", "gamma")),
)
_COORDINATE_KEYS = tuple(f"_atom_site_fract_{axis}" for axis in "xyz")


def _judge(block: Mapping[str, Any], structure: Structure) -> _Reading:
    """Holds a structure to its file's sum formula and to what can be a crystal at all."""
    remarks = []
    declared = _sum_formula(block)
    if declared is not None:
        shares, expected = (
            composition.fractional_composition for composition in (structure.composition, declared)
        )
        if not shares.almost_equals(expected, rtol=0.02, atol=0.005):
            return _Reading(
                structure,
                f"the sum formula of the file is {declared.formula}, its sites make "
                f"{structure.composition.formula}",
                (),
            )
        units = _text(block, ("_cell_formula_units_Z",))
        if units.isdigit() and not _counts(int(units), declared, len(structure)):
            remarks.append(
                f"the file counts {units} × {declared.formula} in the cell, its sites make "
                f"{structure.composition.formula}"
            )
    if structure.is_ordered:
        try:
            check_geometry(Crystal.from_pymatgen(structure))
        except ValueError as problem:
            return _Reading(structure, str(problem), ())
    return _Reading(structure, "", tuple(remarks))


def _counts(units: int, declared: Composition, sites: float) -> bool:
    """Whether a cell has as many sites as its file says.

    The standard's sum formula is that of one unit. What pymatgen writes, and with it the Materials
    Project, is that of the cell, beside the number of reduced formulas in it.
    """
    of_cell = declared.get_reduced_composition_and_factor()[1] == units
    wanted = {units * declared.num_atoms, *([declared.num_atoms] if of_cell else ())}
    return any(abs(number - sites) <= 0.5 for number in wanted)


def _sum_formula(block: Mapping[str, Any]) -> Composition | None:
    """What the file says that it is made of; none where it does not say, or in words of its own."""
    from pymatgen.core.composition import Composition

    text = _text(block, ("_chemical_formula_sum",)).replace("\n", " ")
    for isotope, symbol in ISOTOPES.items():
        text = re.sub(rf"\b{isotope}(?=[\d.\s]|$)", symbol, text)
    try:
        return Composition(text) if text else None
    except ValueError:
        return None
