"""POSCAR: symbols are read only where the format has them.

VASP 5 has a line of symbols above the numbers of atoms; older files may have one behind every
coordinate. A file with neither says which elements it holds in a POTCAR that is not at hand: what a
parser puts in their place (letters of the comment, or H, He, Li, …) is no element of the crystal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.data.row_checks import ISOTOPES
from harness.plugin.crystal import SYMBOLS
from harness.reading import parse_number

if TYPE_CHECKING:
    from pymatgen.core.structure import Structure

_ELEMENTS = frozenset((*SYMBOLS, *ISOTOPES))


def read_poscar(text: str) -> tuple[Structure, str]:
    """Reads a POSCAR.

    Returns:
        The structure, and the comment in the first line.

    Raises:
        ValueError: the file names no elements, or cannot be read.
    """
    from pymatgen.io.vasp.inputs import Poscar

    lines = text.splitlines()
    if len(lines) < 8:
        raise ValueError(f"{len(lines)} lines are no POSCAR: the shortest has 8")
    words = lines[5].split()
    if not words or words[0].isdigit():
        _check_site_symbols(lines)
    _check_numbers(lines, named=bool(words) and not words[0].isdigit())
    poscar = Poscar.from_str(text, read_velocities=False)
    return poscar.structure, poscar.comment


def _check_numbers(lines: Sequence[str], named: bool) -> None:
    """Sees that numbers are some (Python reads `1_0` as 10), and as many as the file says.

    Args:
        lines: of the file.
        named: whether there is a line of symbols.

    Raises:
        ValueError: one is none, or there are other counts than symbols, or too few coordinates.
    """
    place = 6 if named else 5
    counts = lines[place].split("!")[0].split("#")[0].split()
    if not all(count.isascii() and count.isdigit() for count in counts):
        raise ValueError(f"the numbers of atoms are {' '.join(counts)!r}: expected whole numbers")
    if named and len(symbols := lines[5].split()) != len(counts):
        raise ValueError(f"{len(symbols)} symbols and {len(counts)} numbers of atoms")
    begins = place + (3 if lines[place + 1].strip()[:1] in ("S", "s") else 2)
    sites = [line.split() for line in lines[begins : begins + sum(map(int, counts))]]
    for words in (lines[1].split(), *(line.split()[:3] for line in lines[2:5])):
        for word in words:
            parse_number(word)
    if len(sites) < sum(map(int, counts)) or not all(len(site) >= 3 for site in sites):
        raise ValueError(f"it has fewer coordinates than its {sum(map(int, counts))} atoms")
    for word in (word for site in sites for word in site[:3]):
        parse_number(word)


def _check_site_symbols(lines: Sequence[str]) -> None:
    """Sees that a file without a line of symbols has one behind every coordinate.

    Raises:
        ValueError: it has not.
    """
    sites = sum(int(word) for word in lines[5].split() if word.isdigit())
    selective = lines[6].strip()[:1] in ("S", "s")
    begins, place = (8, 6) if selective else (7, 3)
    rows = [line.split() for line in lines[begins : begins + sites]]
    symbols = [row[place] for row in rows if len(row) > place]
    if len(symbols) < sites or not all(symbol in _ELEMENTS for symbol in symbols):
        raise ValueError(
            "no elements: the file names them neither above the numbers of atoms (line 6) nor "
            "behind every coordinate"
        )
