"""Files with structures: each kind gives back what was written; what cannot be read says why."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest

from harness import Crystal, DataError, load_dataset
from harness.data.structure_files import find_records, read_structures, row_of


@pytest.fixture(scope="module")
def crystals() -> list[Crystal]:
    """Rocksalt, zincblende, wurtzite and others, embedded."""
    dataset = load_dataset("Experiment")
    return [dataset.crystals[row] for row in range(0, len(dataset), 9)]


def neutral(crystal: Crystal, **more: object) -> str:
    row = {
        "lattice": crystal.lattice.tolist(),
        "species": list(crystal.species),
        "frac_coords": crystal.frac_coords.tolist(),
    }
    return json.dumps({**more, **row})


def write_cif(path: Path, crystals: list[Crystal]) -> None:
    texts = [str(c.to_pymatgen().to(fmt="cif")) for c in crystals]
    path.write_text(
        "data_global\n_journal_name_full 'J'\n;\ndata_not_a_block\n;\n" + "".join(texts)
    )


def write_poscars(path: Path, crystals: list[Crystal]) -> None:
    for number, crystal in enumerate(crystals):
        (path / f"{number:02d}").mkdir()
        (path / f"{number:02d}" / "POSCAR").write_text(crystal.to_pymatgen().to(fmt="poscar"))


def write_lines(path: Path, crystals: list[Crystal]) -> None:
    with gzip.open(path, "wt") as file:
        file.writelines(neutral(c, id=f"row {n}") + "\n" for n, c in enumerate(crystals))


def write_dicts(path: Path, crystals: list[Crystal]) -> None:
    rows = [
        {"material_id": n, "structure": c.to_pymatgen().as_dict()} for n, c in enumerate(crystals)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_bare_dicts(path: Path, crystals: list[Crystal]) -> None:
    path.write_text("".join(json.dumps(c.to_pymatgen().as_dict()) + "\n\n" for c in crystals))


def write_extxyz(path: Path, crystals: list[Crystal]) -> None:
    pytest.importorskip("ase", reason="ase is absent: pip install 'paraisite-harness[ase]'")
    from ase.io import write

    write(path, [c.to_pymatgen().to_ase_atoms() for c in crystals], format="extxyz")


def write_database(path: Path, crystals: list[Crystal]) -> None:
    pytest.importorskip("ase", reason="ase is absent: pip install 'paraisite-harness[ase]'")
    from ase.db import connect

    database = connect(path)
    for number, crystal in enumerate(crystals):
        database.write(crystal.to_pymatgen().to_ase_atoms(), kappa=float(number), note="n")


@pytest.mark.parametrize(
    ("name", "write", "exact"),
    [
        ("many.cif", write_cif, False),
        ("", write_poscars, True),
        ("rows.jsonl.gz", write_lines, True),
        ("rows.jsonl", write_dicts, True),
        ("bare.jsonl", write_bare_dicts, True),
        ("frames.extxyz", write_extxyz, True),
        ("rows.db", write_database, True),
    ],
)
def test_every_kind_gives_back_what_was_written(name, write, exact, crystals, tmp_path) -> None:
    write(tmp_path / name, crystals)
    rows = list(read_structures(tmp_path / name))
    assert [row.reason for row in rows] == [""] * len(crystals)
    assert len({row.id for row in rows}) == len(rows)
    for row, crystal in zip(rows, crystals, strict=True):
        assert row.crystal is not None
        assert row.crystal.formula == crystal.formula
        density = [len(c.species) / abs(np.linalg.det(c.lattice)) for c in (row.crystal, crystal)]
        assert density[0] == pytest.approx(density[1], rel=1e-6)
        if exact:
            np.testing.assert_allclose(row.crystal.lattice, crystal.lattice, atol=1e-6)
            np.testing.assert_allclose(row.crystal.frac_coords, crystal.frac_coords, atol=1e-6)


def test_what_else_a_file_says_stays(crystals, tmp_path) -> None:
    lines = tmp_path / "rows.jsonl"
    lines.write_text(neutral(crystals[0], id="a", kappa=3.5, source="here"))
    (row,) = read_structures(lines)
    assert row.id == "a"
    assert row.properties == {"id": "a", "kappa": 3.5, "source": "here"}
    write_database(tmp_path / "rows.db", crystals[:2])
    assert [row.properties["kappa"] for row in read_structures(tmp_path / "rows.db")] == [0.0, 1.0]


def test_the_real_files_of_the_study(shared) -> None:
    rows = list(read_structures(shared / "published" / "aflow_cif"))
    assert len(rows) == len(list((shared / "published" / "aflow_cif").glob("*.cif")))
    assert all(row.crystal is not None for row in rows)


BAD_LINES = {
    '{"id": "torn", "latt': "",
    "[1, 2]": "expected an object, found list",
    '{"id": "none"}': "no species",
    '{"id": "flat", "species": ["Na"], "frac_coords": [[0, 0, 0]], "lattice": '
    "[[1, 0, 0], [0, 1, 0], [1, 1, 0]]}": "the lattice vectors span no volume",
    '{"id": "x", "species": ["Xx"], "frac_coords": [[0, 0, 0]], "lattice": '
    "[[3, 0, 0], [0, 3, 0], [0, 0, 3]]}": "unknown element 'Xx'",
    '{"id": "mixed", "structure": {"lattice": {"matrix": [[3, 0, 0], [0, 3, 0], [0, 0, 3]]}, '
    '"sites": [{"species": [{"element": "Na", "occu": 0.5}], "abc": [0, 0, 0]}]}}': "disordered",
    '{"id": "text", "structure": "Na"}': "structure: expected an object, found str",
}


def test_a_bad_line_costs_itself_only(crystals, tmp_path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([neutral(crystals[0]), *BAD_LINES, neutral(crystals[1])]))
    first, *bad, last = read_structures(path)
    assert first.crystal is not None
    assert last.crystal is not None
    for row, reason in zip(bad, BAD_LINES.values(), strict=True):
        assert row.crystal is None
        assert row.reason
        assert reason in row.reason
    assert [row.id for row in bad[2:]] == ["none", "flat", "x", "mixed", "text"]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("empty.cif", "data_x\n", "no atoms"),
        ("bad.cif", "data_x\nloop_\n_atom_site_label\nNa\n", ""),
        ("POSCAR", "1\n", ""),
        ("POSCAR_old", "no names\n1\n3 0 0\n0 3 0\n0 0 3\n1\nDirect\n0 0 0\n", "elements"),
        ("a.xyz", "1\nno lattice\nNa 0 0 0\n", "not periodic"),
    ],
)
def test_a_bad_file_is_a_row_with_a_reason(name, text, reason, tmp_path) -> None:
    (tmp_path / name).write_text(text)
    (row,) = read_structures(tmp_path / name)
    assert row.crystal is None
    assert row.reason
    assert reason in row.reason


def test_files_that_are_none_are_refused_by_name(tmp_path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        list(find_records(tmp_path / "nowhere.cif"))
    with pytest.raises(DataError, match="holds no file with structures"):
        list(find_records(tmp_path))
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"notes.txt: not a known kind.*\.cif"):
        list(find_records(tmp_path / "notes.txt"))


def test_a_file_that_breaks_off_is_read_so_far_and_says_where(tmp_path) -> None:
    whole = gzip.compress(b'{"id": 1}\n' * 9999)
    (tmp_path / "torn.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    *_, last = read_structures(tmp_path / "torn.jsonl.gz")
    assert last.id.startswith("torn:")
    assert re.search(r"cannot be read beyond structure \d+ .*is it complete", last.reason)
    (tmp_path / "no.db").write_bytes(b"SQLite format 3" + b"\0" * 90)
    (row,) = read_structures(tmp_path / "no.db")
    assert "the file cannot be read" in row.reason


def test_a_molecule_is_a_row_with_a_reason() -> None:
    from pymatgen.core import Molecule

    row = row_of(Molecule(["O", "H", "H"], [[0, 0, 0], [0, 0, 1], [0, 1, 0]]), "water")
    assert (row.crystal, row.reason) == (None, "not a crystal: a molecule has no lattice")
