"""What real files have done to parsers: each kind is read rightly, or refused with its reason."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from harness.data.row_checks import CLOSEST, usable_crystal, usable_target
from harness.data.structure_files import StructureRow, read_structures
from harness.nn.graph import build_graph
from harness.plugin.crystal import Crystal
from harness_properties import KAPPA

ROCK_SALT = {
    "lattice": [[0, 2.82, 2.82], [2.82, 0, 2.82], [2.82, 2.82, 0]],
    "species": ["Na", "Cl"],
    "frac_coords": [[0, 0, 0], [0.5, 0.5, 0.5]],
}


@pytest.fixture(scope="module")
def cases(shared: Path) -> Path:
    return shared / "cases"


def read(path: Path) -> StructureRow:
    (row,) = read_structures(path)
    return row


def counts(row: StructureRow) -> dict[str, int]:
    assert row.crystal is not None, row.reason
    return dict(Counter(row.crystal.species))


# --- elements are read where the format has them, and nowhere else ------------------------------


@pytest.mark.parametrize("name", ["none", "comment", "swapped"])
def test_a_poscar_without_symbols_is_refused(name: str, cases: Path) -> None:
    row = read(cases / f"poscar/POSCAR_vasp4_{name}")
    assert row.crystal is None
    assert "no elements" in row.reason


@pytest.mark.parametrize("name", ["ok", "vasp4_sitelabels"])
def test_a_poscar_says_its_elements_above_the_numbers_or_behind_coordinates(
    name: str, cases: Path
) -> None:
    assert counts(read(cases / f"poscar/POSCAR_{name}")) == {"Na": 4, "Cl": 4}


def test_what_vasp_6_writes_behind_a_symbol_is_no_part_of_it(tmp_path: Path) -> None:
    lines = ["x", "1", "0 2.8 2.8", "2.8 0 2.8", "2.8 2.8 0", "Na_pv/f474ac0d Cl/79d9987ad87"]
    path = tmp_path / "POSCAR"
    path.write_text("\n".join([*lines, "1 1", "Direct", "0 0 0", ".5 .5 .5", ""]))
    assert counts(read(path)) == {"Na": 1, "Cl": 1}


@pytest.mark.parametrize("file", ["poscar/POSCAR_LiD", "cif/LiD.cif", "cif/LiT.cif"])
def test_isotopes_are_hydrogen_in_every_format(file: str, cases: Path) -> None:
    assert set(counts(read(cases / file))) == {"Li", "H"}


@pytest.mark.parametrize("file", ["extxyz/LiD.extxyz", "jsonl/LiD.jsonl"])
def test_isotopes_are_hydrogen_in_files_of_many_structures(file: str, cases: Path) -> None:
    for row in read_structures(cases / file):
        assert set(counts(row)) == {"Li", "H"}


# --- a structure is what the file says that it is -------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Ni3Sn_3digits", {"Ni": 6, "Sn": 2}),
        ("Ni3Sn_4digits", {"Ni": 6, "Sn": 2}),
        ("Ni3Sn_5digits", {"Ni": 6, "Sn": 2}),
        ("tetr_ok", {"K": 2, "Au": 2, "Se": 4}),
        ("tetr_off1e-4", {"K": 2, "Au": 2, "Se": 4}),
        ("tetr_off2e-3", {"K": 2, "Au": 2, "Se": 4}),
        ("Bi2Te3_H", {"Bi": 6, "Te": 9}),
        ("Bi2Te3_Hbare", {"Bi": 6, "Te": 9}),
        ("Bi2Te3_R", {"Bi": 2, "Te": 3}),
        ("Bi2Te3_Rbare", {"Bi": 2, "Te": 3}),
        ("Si_o1", {"Si": 8}),
        ("Si_none", {"Si": 1}),
        ("brucite_full", {"Mg": 1, "H": 2, "O": 2}),
        ("NaCl_occ_dot", {"Na": 4, "Cl": 4}),
    ],
)
def test_a_cif_is_read_in_the_setting_and_to_the_digits_it_has(
    name: str, expected: dict[str, int], cases: Path
) -> None:
    assert counts(read(cases / f"cif/{name}.cif")) == expected


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("brucite_OH", "'OH1' has no element"),
        ("brucite_noH", "sum formula of the file is Mg1 H2 O2, its sites make Mg1 O2"),
        ("brucite_attachedH", "sum formula of the file is Mg1 H2 O2, its sites make Mg1 O2"),
        ("brucite_noSymbolH", "'H1' has no coordinates"),
        ("NaCl_occ_question", "occupancy of site 'Na1' is unknown"),
        ("NaCl_dummy", "'X1' has no element"),
        ("NaCl_listed_twice", "Occupancy 2.0"),
    ],
)
def test_a_cif_that_contradicts_itself_is_refused(name: str, reason: str, cases: Path) -> None:
    row = read(cases / f"cif/{name}.cif")
    assert row.crystal is None
    assert reason in row.reason


CIF = """data_x
_cell_length_a 5.64
_cell_length_b 5.64
_cell_length_c 5.64
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M '{group}'
_chemical_formula_sum '{formula}'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
{sites}
"""


@pytest.mark.parametrize(
    ("group", "formula", "sites", "reason"),
    [
        ("F m -3 m", "?", "Na1 ? 0 0 0\nCl1 Cl .5 .5 .5", "'Na1' has no element"),
        ("Fm3m_typo", "Na Cl", "Na1 Na 0 0 0\nCl1 Cl .5 .5 .5", "no space group 'Fm3m_typo'"),
        ("F m -3 m", "Na Cl2", "Na1 Na 0 0 0\nCl1 Cl .5 .5 .5", "Na1 Cl2"),
        ("F m -3 m", "?", "Na1 Na 0 0 0\nCl1 Cl .02 0 0", "cannot be on one spot"),
    ],
)
def test_what_a_parser_would_pass_over_is_a_reason(
    group: str, formula: str, sites: str, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.cif"
    path.write_text(CIF.format(group=group, formula=formula, sites=sites))
    row = read(path)
    assert row.crystal is None
    assert reason in row.reason


def test_a_setting_that_the_file_does_not_name_is_told_by_its_counts_or_refused(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.cif"
    path.write_text(CIF.format(group="F d -3 m", formula="Si", sites="Si1 Si 0 0 0"))
    assert "in which setting" in read(path).reason
    path.write_text(path.read_text().replace("loop_", "_cell_formula_units_Z 8\nloop_", 1))
    assert counts(read(path)) == {"Si": 8}


def test_a_count_that_does_not_fit_is_a_remark(tmp_path: Path) -> None:
    path = tmp_path / "x.cif"
    sites = "Na1 Na 0 0 0\nCl1 Cl .5 .5 .5"
    text = CIF.format(group="F m -3 m", formula="Na Cl", sites=sites)
    path.write_text(text.replace("loop_", "_cell_formula_units_Z 2\nloop_", 1))
    row = read(path)
    assert counts(row) == {"Na": 4, "Cl": 4}
    assert row.remarks == ("the file counts 2 × Na1 Cl1 in the cell, its sites make Na4 Cl4",)


def test_a_file_that_pymatgen_has_written_counts_its_cell(tmp_path: Path) -> None:
    """Its sum formula is that of the cell, beside the number of reduced formulas."""
    cell = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    cell.to(filename=str(tmp_path / "nacl.cif"))
    assert "_cell_formula_units_Z   4" in (tmp_path / "nacl.cif").read_text()
    (row,) = read_structures(tmp_path / "nacl.cif")
    assert (row.reason, row.remarks) == ("", ())


# --- geometry, by one policy for all ----------------------------------------------------------


def test_two_atoms_on_one_spot_are_refused_with_the_distance(cases: Path) -> None:
    rows = {row.id: row for row in read_structures(cases / "jsonl/geometry.jsonl")}
    for name in ("same_site", "same_site_mod1", "near"):
        assert "Å apart: two atoms cannot be on one spot" in rows[name].reason
    assert "0.00399 Å" in rows["near"].reason
    assert "on one spot" in read(cases / "poscar/POSCAR_dups").reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"lattice": np.eye(3) * 500}, "density"),
        ({"lattice": np.eye(3) * 0.5}, "density"),
        ({"frac_coords": [[0, 0, 0], [1e300, 0.5, 0.5]]}, "fractional coordinate"),
        ({"lattice": [[2, 0, 0], [4, 0, 0], [0, 0, 2]]}, "span no volume"),
    ],
)
def test_what_is_no_crystal_of_this_world_is_refused(changes: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        usable_crystal(ROCK_SALT | changes)


@pytest.mark.parametrize("shear", [0, 3, 1000, 10**6])
def test_a_sheared_cell_is_the_same_crystal_and_as_quick_to_search(shear: int) -> None:
    a, b, c = np.array(ROCK_SALT["lattice"], dtype=float)
    lattice = np.array([a, b, c + shear * (a + b)])
    coords = np.array([[0, 0, 0], (a + b + c) / 2 @ np.linalg.inv(lattice)])
    crystal = usable_crystal(ROCK_SALT | {"lattice": lattice, "frac_coords": coords})
    assert crystal.volume == pytest.approx(2 * 2.82**3, rel=1e-6)
    assert np.linalg.norm(crystal.lattice, axis=1).prod() < 100 * crystal.volume
    assert shear > 3 or (crystal.lattice == lattice).all(), "what is usual stays to the last bit"


@pytest.mark.parametrize("length", [30.0, 900.0])
def test_a_cell_like_a_needle_has_few_neighbours_to_search(length: float) -> None:
    crystal = Crystal(np.diag([2.2, 2.2, length]), ("Fe",), np.zeros((1, 3)))
    graph = build_graph(crystal, 4.0)
    assert len(graph.src) == 2, "the two distances of a square net, each once"


def test_the_published_datasets_are_far_from_every_bound(shared: Path) -> None:
    from harness import load_dataset
    from harness.data import row_checks

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_checks, "CLOSEST", 1.4 * CLOSEST)
        for name in ("Dataset1", "Dataset2", "Experiment"):
            assert not load_dataset(name, data_dir=shared / "data").problems


# --- numbers and encodings --------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    ["7.1(3)", "60±5", "~17", "<7", "5-6", "1_0", "1,200", "NA", "nan", "inf", "0x1p3", True, []],
)
def test_what_only_looks_like_a_number_is_none(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        usable_target(value, "kappa", KAPPA)


@pytest.mark.parametrize(("value", "factor"), [(1e-322, 1.0), (0.009, 1.0), (5.0, 1e-3)])
def test_a_target_below_what_metrics_tell_apart_is_refused(value: float, factor: float) -> None:
    with pytest.raises(ValueError, match=r"expected at least 0\.01"):
        usable_target(value, "kappa", KAPPA, factor)


@pytest.mark.parametrize("name", ["bom", "utf16", "latin1"])
def test_a_cif_is_read_in_any_encoding(name: str, cases: Path) -> None:
    assert counts(read(cases / f"cif/MgO_{name}.cif")) == {"Mg": 4, "O": 4}


@pytest.mark.parametrize("file", ["extxyz/bom.extxyz", "jsonl/bom.jsonl"])
def test_no_row_is_lost_to_a_byte_order_mark(file: str, cases: Path) -> None:
    rows = list(read_structures(cases / file))
    assert rows
    assert all(row.crystal is not None for row in rows)


def test_ids_stay_as_they_are_written(cases: Path) -> None:
    found = [row.id for row in read_structures(cases / "extxyz/ids.extxyz")]
    assert found[:5] == ["001", "1e5", "T", "F", "True"]


def test_an_id_in_one_row_of_a_database_names_that_row(cases: Path) -> None:
    pytest.importorskip("ase")
    rows = list(read_structures(cases / "ase/x.db"))
    assert [row.id for row in rows] == ["x:1", "x:3", "x:4", "x:5", "from-data"]
    assert [row.id for row in rows if row.crystal is None] == ["x:4"]
    assert "not periodic" in rows[2].reason


# --- one bad file costs itself, and nothing without bound ----------------------------------------


def test_one_unreadable_file_does_not_stop_a_folder(tmp_path: Path) -> None:
    good = json.dumps({"id": "good", **ROCK_SALT})
    (tmp_path / "a.jsonl").write_text(good + "\n")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(good.encode())[:20])
    (tmp_path / "c.cif").mkdir()
    (tmp_path / "d.jsonl").write_text(good.replace("good", "last") + "\n")
    os.mkfifo(tmp_path / "e.cif")
    rows = {row.id: row for row in read_structures(tmp_path)}
    assert [name for name, row in rows.items() if row.crystal] == ["good", "last"]
    assert "cannot be read" in rows["b"].reason
    assert "not a regular file" in rows["e"].reason


@pytest.mark.parametrize("first", ["1000000000", "99999999999", "9" * 5000, "-3", "2x", "²"])
def test_a_frame_that_announces_too_much_ends_the_file_with_a_reason(
    first: str, tmp_path: Path
) -> None:
    pytest.importorskip("ase")
    path = tmp_path / "x.extxyz"
    path.write_text(f"{first}\ncomment\nNa 0 0 0\n")
    assert "the file cannot be read" in read(path).reason


def test_a_property_of_a_billion_columns_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("ase")
    path = tmp_path / "x.extxyz"
    path.write_text('1\nLattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:999999999\nNa 0\n')
    assert "columns" in read(path).reason


@pytest.mark.parametrize(
    "line",
    [
        "[" * 100_000,
        '{"id": ' + "9" * 5000 + "}",
        '{"id": "\\ud800", "species": []}',
        "{",
        "null",
    ],
    ids=["deep", "digits", "half a letter", "torn", "null"],
)
def test_a_line_of_json_costs_itself_only(line: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(line + "\n" + json.dumps({"id": "good", **ROCK_SALT}) + "\n")
    bad, good = read_structures(path)
    assert bad.reason
    assert good.crystal is not None


def test_a_compressed_gigabyte_of_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.cif.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(80):
            file.write(b"\0" * 2**20)
    assert "longer than" in read(path).reason


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    lines = ["x", "1", "0 2.8 2.8", "2.8 0 2.8", "2.8 2.8 0", "Na Cl", "1 1", "Direct"]
    text = "\n".join([*lines, "0 0 0", ".5 .5 .5", ""])
    paths = [tmp_path / f"run{n}/CONTCAR" for n in (1, 2)]
    for path in (*paths, tmp_path / "POSCAR"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    found = [row.id for row in read_structures(*paths, tmp_path / "POSCAR")]
    assert found == [*(path.as_posix() for path in paths), "POSCAR"]
    folders = [row.id for row in read_structures(tmp_path / "run1", tmp_path / "run2")]
    assert folders == found[:2]


# --- numbers that are none, and symmetry that contradicts itself --------------------------------

POSCAR = "x\n{scale}\n0 2.82 2.82\n2.82 0 {length}\n2.82 2.82 0\n{symbols}\n{counts}\nDirect\n"
CIF_OF_SALT = """data_x
_cell_length_a {a}
_cell_length_b 5.64
_cell_length_c 5.64
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma {gamma}
_symmetry_space_group_name_H-M '{group}'
_symmetry_Int_Tables_number {number}
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Na1 Na 0 0 0 {occupancy}
Cl1 Cl {x} 0.5 0.5 1
"""
PLAIN = {"scale": "1.0", "length": "2.82", "symbols": "Na Cl", "counts": "1 1", "x": "0.5"}
CUBIC = {"a": "5.64(2)", "gamma": "90", "group": "F m -3 m", "number": "225", "occupancy": "1"}


def write(kind: str, folder: Path, **changes: str) -> Path:
    """Writes rock salt as a file of a kind, with something else in it."""
    values = {**PLAIN, **CUBIC, **changes}
    path = folder / {"poscar": "POSCAR", "cif": "x.cif", "extxyz": "x.extxyz"}[kind]
    text = {
        "poscar": POSCAR + "0 0 0\n{x} .5 .5\n",
        "cif": CIF_OF_SALT,
        "extxyz": '2\nLattice="0 2.82 2.82 2.82 0 {length} 2.82 2.82 0" pbc="T T T"\n'
        "Na 0 0 0\nCl 2.82 2.82 {length}\n",
    }[kind]
    path.write_text(text.format(**values))
    return path


@pytest.mark.parametrize("kind", ["poscar", "cif", "extxyz"])
def test_the_plain_file_is_rock_salt(kind: str, tmp_path: Path) -> None:
    row = read(write(kind, tmp_path))
    assert set(counts(row).values()) in ({1}, {4})


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("poscar", {"scale": "1_0"}, "'1_0' is not a number"),
        ("poscar", {"length": "2_8.2"}, "'2_8.2' is not a number"),
        ("poscar", {"x": "0_5"}, "'0_5' is not a number"),
        ("poscar", {"counts": "1 1_0"}, "expected whole numbers"),
        ("poscar", {"counts": "1 2"}, "fewer coordinates than its 3 atoms"),
        ("poscar", {"symbols": "Na Cl K"}, "3 symbols and 2 numbers of atoms"),
        ("cif", {"a": "5_64"}, "'5_64' is not a number"),
        ("cif", {"x": "0_5"}, "'0_5' is not a number"),
        ("cif", {"occupancy": "1_0"}, "'1_0' is not a number"),
        ("cif", {"occupancy": "-1"}, "the occupancy of site 'Na1' is -1"),
        ("cif", {"number": "1"}, "which is number 225, and the number 1"),
        ("cif", {"group": "P m -3 m"}, "which is number 221, and the number 225"),
        ("cif", {"gamma": "80"}, "has not the symmetry of the space group 'F m -3 m'"),
        ("extxyz", {"length": "2.8_2"}, "'2.8_2' is not a number"),
    ],
)
def test_what_a_parser_would_guess_is_refused(
    kind: str, changes: dict[str, str], reason: str, tmp_path: Path
) -> None:
    row = read(write(kind, tmp_path, **changes))
    assert row.crystal is None
    assert reason in row.reason


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("lattice", [[True, 2.82, 2.82], [2.82, 0, 2.82], [2.82, 2.82, 0]], "is True, not a num"),
        ("lattice", [["1_0", 0, 0], [0, 5, 0], [0, 0, 5]], "'1_0' is not a number"),
        ("lattice", [["٥", 0, 0], [0, 5, 0], [0, 0, 5]], "'٥' is not a number"),
        ("frac_coords", [[0, 0, 0], [True, 0.5, 0.5]], "is True, not a number"),
        ("frac_coords", [[0, 0, 0], [None, 0.5, 0.5]], "not a finite number"),
        ("species", [11, 17], "unknown element 11: write its symbol"),
    ],
)
def test_what_json_has_in_place_of_numbers_is_refused(key: str, value: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        usable_crystal({**ROCK_SALT, key: value})


@pytest.mark.parametrize("occupancy", [True, "1"])
def test_an_occupancy_is_a_number(occupancy: object, tmp_path: Path) -> None:
    sites = [
        {"species": [{"element": "Na", "occu": occupancy}], "abc": [0, 0, 0]},
        {"species": [{"element": "Cl", "occu": 1}], "abc": [0.5, 0.5, 0.5]},
    ]
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"lattice": {"matrix": ROCK_SALT["lattice"]}, "sites": sites}))
    assert "not a number" in read(path).reason
