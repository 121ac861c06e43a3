"""Every kind of source becomes the same dataset; wrong rows are named; nothing is half-written."""

from __future__ import annotations

import csv
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import DataError, Locations, Registry, import_dataset, load_dataset, read_neutral
from harness.apps.imports.imported import imported_datasets, remove_imported, write_imported
from harness.apps.imports.importing import Imported, Question
from harness.data import row_checks
from harness.data.dataset import Dataset
from harness.data.pickle_tables import read_pickled_table
from harness.plugin.crystal import Crystal

SAID: dict[str, Any] = {"unit": "W/(m·K)", "temperature": 300, "method": "measured"}


@pytest.fixture(autouse=True)
def imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of imported datasets, empty."""
    folder = tmp_path / "imports"
    monkeypatch.setenv("HARNESS_IMPORTS", str(folder))
    return folder


@pytest.fixture(scope="module")
def rocksalt() -> Dataset:
    return load_dataset("Rocksalt")


def pymatgen_dict(crystal: Crystal) -> dict[str, Any]:
    return crystal.to_pymatgen().as_dict()


def write_csv(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def csv_of(dataset: Dataset, path: Path, suffix: str = "") -> Path:
    lines = (f"{i}{suffix},{k}" for i, k in zip(dataset.ids, dataset.targets, strict=True))
    return write_csv(path, "file,kappa", *lines)


# --- each kind of source ------------------------------------------------------------------------


def cif_folder(dataset: Dataset, folder: Path) -> tuple[Path, dict[str, Any]]:
    from pymatgen.io.cif import CifWriter

    for row_id, crystal in zip(dataset.ids, dataset.crystals, strict=True):
        CifWriter(crystal.to_pymatgen(), significant_figures=12).write_file(
            folder / f"{row_id}.cif"
        )
    csv_of(dataset, folder / "kappa.csv", ".cif")  # the one CSV of the folder need not be named
    return folder, {}


def poscar_folder(dataset: Dataset, folder: Path) -> tuple[Path, dict[str, Any]]:
    for row_id, crystal in zip(dataset.ids, dataset.crystals, strict=True):
        (folder / row_id).mkdir()
        crystal.to_pymatgen().to(str(folder / row_id / "POSCAR"), fmt="poscar")
    return folder, {"targets": csv_of(dataset, folder.parent / "elsewhere.csv")}


def json_lines(dataset: Dataset, folder: Path) -> tuple[Path, dict[str, Any]]:
    rows = zip(dataset.ids, dataset.targets, dataset.crystals, strict=True)
    lines = (
        json.dumps({"id": i, "klat": 1000 * k, "structure": pymatgen_dict(c)}) for i, k, c in rows
    )
    return write_csv(folder / "rows.jsonl", *lines), {"unit": "mW/(m·K)"}


def json_lines_with_csv(dataset: Dataset, folder: Path) -> tuple[Path, dict[str, Any]]:
    rows = zip(dataset.ids, dataset.crystals, strict=True)
    lines = (json.dumps({"id": i, "structure": pymatgen_dict(c)}) for i, c in rows)
    targets = csv_of(dataset, folder / "kappa.csv")
    return write_csv(folder / "rows.jsonl", *lines), {"targets": targets}


def atoms_of(dataset: Dataset) -> list[Any]:
    from ase import Atoms

    return [
        Atoms(list(c.species), scaled_positions=c.frac_coords, cell=c.lattice, pbc=True)
        for c in dataset.crystals
    ]


def extended_xyz(dataset: Dataset, folder: Path) -> tuple[Path, dict[str, Any]]:
    pytest.importorskip("ase")
    from ase.io import write

    atoms = atoms_of(dataset)
    for one, row_id, kappa in zip(atoms, dataset.ids, dataset.targets, strict=True):
        one.info |= {"name": row_id, "kappa": float(kappa)}
    write(folder / "all.extxyz", atoms, format="extxyz")
    return folder / "all.extxyz", {"id_column": "name"}


def ase_database(dataset: Dataset, folder: Path) -> tuple[Path, dict[str, Any]]:
    pytest.importorskip("ase")
    from ase.db import connect

    with connect(folder / "all.db") as database:
        for one, row_id, kappa in zip(atoms_of(dataset), dataset.ids, dataset.targets, strict=True):
            database.write(one, label=row_id, conductivity=float(kappa))
    return folder / "all.db", {"id_column": "label", "target_column": "conductivity"}


def frame(orient: Any) -> Callable[[Dataset, Path], tuple[Path, dict[str, Any]]]:
    def write(dataset: Dataset, folder: Path) -> tuple[Path, dict[str, Any]]:
        import pandas as pd

        table = pd.DataFrame(
            {
                "material_id": dataset.ids,
                "structure": [pymatgen_dict(crystal) for crystal in dataset.crystals],
                "thermal_conductivity": dataset.targets,
            }
        )
        path = folder / "frame.json.gz"
        table.to_json(path, orient=orient, double_precision=15)
        return path, {}

    return write


def monty_frame(dataset: Dataset, folder: Path) -> tuple[Path, dict[str, Any]]:
    import pandas as pd
    from monty.serialization import dumpfn

    structures = [crystal.to_pymatgen() for crystal in dataset.crystals]
    table = pd.DataFrame({"id": dataset.ids, "structure": structures, "kappa": dataset.targets})
    dumpfn(table, folder / "frame.json")
    return folder / "frame.json", {}


def csv_with_structures(dataset: Dataset, folder: Path) -> tuple[Path, dict[str, Any]]:
    import pandas as pd

    table = pd.DataFrame(
        {
            "mp_id": dataset.ids,
            "cif": [crystal.to_pymatgen().to(fmt="cif") for crystal in dataset.crystals],
            "TC": dataset.targets,
        }
    )
    table.to_csv(folder / "table.csv", index=False)
    return folder / "table.csv", {}


def own_pickles(dataset: Dataset, folder: Path) -> tuple[Path, dict[str, Any]]:
    """As today's pandas and pymatgen write them."""
    import pickle

    import pandas as pd

    pd.DataFrame({"name": dataset.ids, "k": dataset.targets}).to_pickle(folder / "own.pkl")
    structures = [crystal.to_pymatgen() for crystal in dataset.crystals]
    (folder / "structures_own.pkl").write_bytes(pickle.dumps(structures))
    return folder / "own.pkl", {"id_column": "name", "target_column": "k"}


SOURCES = {
    "folder of CIF files": cif_folder,
    "folders of POSCAR files": poscar_folder,
    "JSON lines": json_lines,
    "JSON lines with a CSV": json_lines_with_csv,
    "extended XYZ": extended_xyz,
    "ASE database": ase_database,
    "frame, split": frame("split"),
    "frame, columns": frame("columns"),
    "frame, index": frame("index"),
    "frame, records": frame("records"),
    "frame, table": frame("table"),
    "frame by monty": monty_frame,
    "CSV with structures": csv_with_structures,
    "pickles": own_pickles,
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_source_gives_the_same_dataset(
    kind: str, rocksalt: Dataset, tmp_path: Path
) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    source, options = SOURCES[kind](rocksalt, folder)
    imported = import_dataset("Mine", source, **{**SAID, **options})
    assert imported.rejected == ()
    mine = load_dataset("Mine")
    assert mine.digest == imported.dataset.digest
    assert mine.ids == rocksalt.ids
    assert mine.formulas == rocksalt.formulas
    np.testing.assert_allclose(mine.targets, rocksalt.targets, rtol=1e-12)
    for found, wanted in zip(mine.crystals, rocksalt.crystals, strict=True):
        assert abs(np.linalg.det(found.lattice)) == pytest.approx(
            abs(np.linalg.det(wanted.lattice)), rel=1e-5
        )


@pytest.mark.parametrize("name", ["Dataset1", "Dataset2", "MIX"])
def test_a_pair_of_published_pickles_gives_the_published_dataset(
    name: str, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickles = shared / "published/structures_scalers"
    imported = import_dataset("Mine", pickles / f"{name}.pkl", **SAID)
    by_other_file = import_dataset(
        "Mine2", pickles / f"structures_{name}.pkl", targets=pickles / f"{name}.pkl", **SAID
    )
    assert imported.dataset.ids == by_other_file.dataset.ids
    neutral = list(read_neutral(shared / f"data/{name}.jsonl.gz"))
    assert list(imported.dataset.ids) == [row["id"] for row in neutral]
    assert imported.dataset.targets.tolist() == [row["kappa"] for row in neutral]
    for crystal, row in zip(imported.dataset.crystals, neutral, strict=True):
        assert crystal.frac_coords.tolist() == row["frac_coords"]


def test_a_pickled_list_of_targets_gives_numbered_rows(shared: Path, tmp_path: Path) -> None:
    import pickle

    (tmp_path / "numbers.pkl").write_bytes(pickle.dumps([1.5] * 95, protocol=4))
    structures = shared / "published/structures_scalers/structures_Dataset1.pkl"
    imported = import_dataset("Mine", structures, targets=tmp_path / "numbers.pkl", **SAID)
    assert imported.dataset.ids[:2] == ("Mine-1", "Mine-2")


def test_files_of_the_wild_are_imported_and_what_lacks_is_listed(
    shared: Path, tmp_path: Path
) -> None:
    """The 40 published CIF files, with κ of those whose ICSD number the mirrored AFLOW set has."""
    kappa = {row["id"]: row["kappa"] for row in read_neutral(shared / "data/AFLOW.jsonl.gz")}
    folder = shared / "published/aflow_cif"
    names = sorted(path.name for path in folder.glob("*.cif"))
    known = {n: kappa[i] for n in names if (i := f"ICSD-{n[:-4].split('ICSD_')[1]}") in kappa}
    table = write_csv(tmp_path / "k.csv", "file;k", *(f"{n};{k}" for n, k in known.items()))
    imported = import_dataset("Cifs", folder, targets=table, target_column="k", **SAID)
    assert len(imported.dataset) == len(known) == 24
    assert {row.reason for row in imported.rejected} == {"no row in k.csv"}
    assert len(imported.rejected) == len(names) - len(known)


# --- wrong rows and wrong input -----------------------------------------------------------------


def test_wrong_rows_are_left_out_by_line_and_reason(rocksalt: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    cif_folder(rocksalt.take(range(5)), folder)
    a, b, c, d, e = rocksalt.ids[:5]
    (folder / f"{d}.cif").write_text("data_x\n_cell_length_a 1\n")
    table = write_csv(
        tmp_path / "k.csv",
        "id,κ lat",
        f"{a},12",
        f"{b},-3",
        "",
        f"{c},fast",
        f"{d},4",
        "nowhere,5",
        f"{a},12.0",
        ",7",
        f"{e},8,9",
    )
    imported = import_dataset("Mine", folder, targets=table, target_column="κ lat", **SAID)
    assert imported.dataset.ids == (a,)
    assert [(r.place, r.id, r.reason) for r in imported.rejected] == [
        ("k.csv, line 3", b, "κ lat is -3, not a positive number"),
        ("k.csv, line 5", c, "κ lat is 'fast', not a number"),
        ("k.csv, line 6", d, "no atoms: the file has no _atom_site"),
        ("k.csv, line 7", "nowhere", f"no structure of that name in {folder}"),
        ("k.csv, line 8", a, "duplicate id, as in k.csv, line 2"),
        ("k.csv, line 9", "", "no id"),
        ("k.csv, line 10", e, "3 values where the header has 2"),
    ]
    kept = (imported.folder / "rejected.csv").read_text().splitlines()
    assert len(kept) == 8

    with pytest.raises(DataError, match=r"7 rows cannot be used.*\n.*line 3.*not a positive"):
        import_dataset(
            "Strict", folder, targets=table, target_column="κ lat", strict_data=True, **SAID
        )
    assert "Strict" not in Registry().datasets


def test_of_two_values_of_one_id_none_is_chosen(rocksalt: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    cif_folder(rocksalt.take(range(2)), folder)
    a, b = rocksalt.ids[:2]
    table = write_csv(tmp_path / "k.csv", "id,kappa", f"{a},12", f"{b},4", f"{a},6")
    imported = import_dataset("Mine", folder, targets=table, **SAID)
    assert imported.dataset.ids == (b,)
    reason = "rows of this id have other values (12, 6): leave one"
    assert [(r.place, r.reason) for r in imported.rejected] == [
        ("k.csv, line 2", reason),
        ("k.csv, line 4", reason),
    ]


@pytest.mark.parametrize("heading", ["T", "T (K)", "temperature", "Temp_K", "temperature [kelvin]"])
def test_values_at_other_temperatures_are_left_out(
    heading: str, rocksalt: Dataset, tmp_path: Path
) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    cif_folder(rocksalt.take(range(2)), folder)
    a, b = rocksalt.ids[:2]
    lines = (f"{a},100,25", f"{a},300,7", f"{b},100,300", f"{b},cold,60")
    table = write_csv(tmp_path / "k.csv", f"id,{heading},kappa", *lines)
    imported = import_dataset("Mine", folder, targets=table, **{**SAID, "temperature": 300})
    assert dict(zip(imported.dataset.ids, imported.dataset.targets, strict=True)) == {a: 7.0}
    assert [r.reason for r in imported.rejected] == [
        f"{heading} is 100 K, and values at 300 K are wanted",
        f"{heading} is 100 K, and values at 300 K are wanted",
        f"{heading} is 'cold', not a temperature",
    ]
    with pytest.raises(DataError, match=r"several temperatures .*--temperature"):
        import_dataset("Any", folder, targets=table, **{**SAID, "temperature": "unknown"})


@pytest.mark.parametrize(
    "content",
    [
        "id,kappa\r{a},12\r{b},4\r",
        'id,"kappa (300 K; bulk; W/mK; avg)"\n{a},12\n{b},4\n',
        "\ufeffid,kappa\n{a},12\n{b},4\n",
        "id\tkappa\n{a}\t12\n{b}\t4\n",
    ],
    ids=["CR only", "semicolons in a quoted name", "byte order mark", "tabs"],
)
def test_habits_of_csv_writers(content: str, rocksalt: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    cif_folder(rocksalt.take(range(2)), folder)
    a, b = rocksalt.ids[:2]
    table = tmp_path / "k.csv"
    table.write_bytes(content.format(a=a, b=b).encode())
    target = "kappa (300 K; bulk; W/mK; avg)" if "bulk" in content else None
    imported = import_dataset("Mine", folder, targets=table, target_column=target, **SAID)
    assert imported.dataset.ids == (a, b)


def test_a_cell_of_a_csv_may_hold_a_large_structure(rocksalt: Dataset, tmp_path: Path) -> None:
    large = rocksalt.crystals[0].to_pymatgen() * (8, 8, 8)
    cell = json.dumps(large.as_dict()).replace('"', '""')
    assert len(cell) > 2**17
    table = write_csv(tmp_path / "k.csv", "id,kappa,structure", f'large,12,"{cell}"')
    imported = import_dataset("Mine", table, **SAID)
    assert len(imported.dataset.crystals[0].species) == len(large)


@pytest.mark.parametrize("name", ["a3plain", "a2ox", "a2cat"])
def test_pickles_of_today_are_read(name: str, shared: Path) -> None:
    structures = shared / f"cases/pickles/structures_{name}.pkl"
    said = {**SAID, "target_column": "TC", "id_column": "mpd_id"}
    imported = import_dataset(
        "Mine", structures, targets=structures.with_name(f"{name}.pkl"), **said
    )
    assert imported.dataset.ids == ("mp-22862", "mp-1265", "mp-1138")
    assert imported.dataset.targets.tolist() == [7.0, 60.0, 17.0]
    assert [crystal.formula for crystal in imported.dataset.crystals] == ["ClNa", "MgO", "FLi"]


def test_lists_in_a_pickle_that_share_lists_are_not_written_out(tmp_path: Path) -> None:
    value: list[Any] = [1.0]
    for _ in range(60):
        value = [value, value]
    (tmp_path / "x.pkl").write_bytes(pickle.dumps([value], protocol=4))
    with pytest.raises(DataError, match="does not hold"):
        read_pickled_table(tmp_path / "x.pkl")


CELLS = st.text(max_size=8) | st.floats().map(repr) | st.floats(1e-3, 1e4).map(repr)


@settings(
    max_examples=30,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(rows=st.lists(st.tuples(st.text(max_size=5), CELLS), min_size=1, max_size=12))
def test_every_line_is_imported_or_rejected_once_and_none_is_lost(
    rows: list[tuple[str, str]], tmp_path: Path
) -> None:
    table = tmp_path / "k.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "kappa", "structure"))
        writer.writerows((row_id, kappa, CESIUM_CHLORIDE) for row_id, kappa in rows)
    try:
        imported = import_dataset("Mine", table, overwrite=True, **SAID)
    except DataError as refusal:
        assert "no row can be used" in str(refusal)  # noqa: PT017
        return
    dataset = load_dataset("Mine")
    assert not dataset.problems  # what was imported can be used
    assert dataset.digest == imported.dataset.digest
    assert len(dataset) + len(imported.rejected) == len(rows)
    assert len({r.place for r in imported.rejected}) == len(imported.rejected)


CESIUM_CHLORIDE = json.dumps(
    {
        "lattice": {"matrix": [[4.1, 0, 0], [0, 4.1, 0], [0, 0, 4.1]]},
        "sites": [
            {"species": [{"element": "Cs", "occu": 1}], "abc": [0, 0, 0]},
            {"species": [{"element": "Cl", "occu": 1}], "abc": [0.5, 0.5, 0.5]},
        ],
    }
)


def test_wrong_json_lines_are_named_by_their_number_in_the_file(
    rocksalt: Dataset, tmp_path: Path
) -> None:
    path, _ = json_lines(rocksalt, tmp_path)
    with path.open("a", encoding="utf-8") as file:
        file.write('\n{"id": "half"\n')
        file.write('{"id": "nothing", "klat": 3}\n')
    imported = import_dataset("Mine", path, **SAID)
    assert len(imported.dataset) == len(rocksalt)
    torn, empty = imported.rejected
    line = len(rocksalt) + 2
    assert (torn.place, empty.place) == (f"rows.jsonl, line {line}", f"rows.jsonl, line {line + 1}")
    assert (empty.id, empty.reason) == ("nothing", "no species")


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        (["id,kappa", "a,1"], {"unit": "eV"}, r"--unit 'eV': expected one of W/\(m·K\), mW"),
        (["id,kappa", "a,1"], {"target_column": "TC"}, r"--target-column 'TC': .* id, kappa"),
        (["id,kappa", "a,1"], {"temperature": "hot"}, "--temperature 'hot': expected a number"),
        (["id,kappa", "a,1"], {"temperature": -5}, "--temperature '-5': expected a number"),
        (["id,kappa", "a,1"], {"method": " "}, "--method is empty"),
        (["id,kappa", "a,1"], {"method": None}, r"k\.csv does not say all.*\n  --method: "),
        (["id,value", "a,1"], {}, r"\n  --target-column: column of .* κ \(id, value\)$"),
        (["id,id", "a,1"], {}, "k.csv: the first line names 'id' twice"),
        (["id,,kappa", "a,,1"], {}, "k.csv: the first line names '' twice or not at all"),
        (["id,kappa", "x,1"], {}, r"no row can be used\.\n  k\.csv, line 2 \(x\): no structure"),
        ([""], {}, "k.csv: the first line"),
    ],
)
def test_what_is_wrong_or_missing_is_named_and_nothing_is_written(
    lines: list[str],
    options: dict[str, Any],
    message: str,
    rocksalt: Dataset,
    tmp_path: Path,
    imports: Path,
) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    rocksalt.crystals[0].to_pymatgen().to(str(folder / "a.cif"))
    table = write_csv(tmp_path / "k.csv", *lines)
    with pytest.raises(DataError, match=message):
        import_dataset("Mine", folder, targets=table, **{**SAID, **options})
    assert not imports.exists()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("a.json", b"[1, 2]", "a.json is no pandas frame: expected what DataFrame.to_json"),
        ("a.json", b"{", "a.json cannot be read as JSON"),
        ("a.json", b'{"kappa": {"0": 1}}', "a.json has no column of structures. It has: kappa"),
        ("a.json.gz", b"no gzip", "a.json.gz cannot be read as JSON"),
        ("a.csv", b"id,kappa\n\xff\xfe,1\n", "a.csv cannot be read.*UTF-8"),
        ("a.pkl", b"", "structures_a.pkl does not exist. Pickles come in pairs"),
        ("a.docx", b"", "not a known kind of file"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    file: str, content: bytes, message: str, tmp_path: Path, imports: Path
) -> None:
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError, match=message):
        import_dataset("Mine", tmp_path / file, **SAID)
    assert not imports.exists()


def test_of_several_columns_with_ids_the_one_that_finds_structures_is_taken(
    rocksalt: Dataset, tmp_path: Path
) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    cif_folder(rocksalt, folder)
    rows = zip(rocksalt.ids, rocksalt.targets, strict=True)
    table = write_csv(
        tmp_path / "k.csv", "id,filename,TC", *(f"{n},{i}.cif,{k}" for n, (i, k) in enumerate(rows))
    )
    imported = import_dataset("Mine", folder, targets=table, **SAID)
    assert imported.remarks == ("id column: filename", "target column: TC")
    assert imported.dataset.ids == rocksalt.ids


def test_two_csv_files_in_a_folder_must_be_told_apart(tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    for name in ("a.csv", "b.csv"):
        write_csv(folder / name, "id,kappa", "a,1")
    with pytest.raises(DataError, match=r"holds 2 CSV files: name .* with --targets"):
        import_dataset("Mine", folder, **SAID)


# --- names, replacing and removing --------------------------------------------------------------


@pytest.fixture
def source(rocksalt: Dataset, tmp_path: Path) -> Path:
    folder = tmp_path / "lines"
    folder.mkdir()
    return json_lines(rocksalt, folder)[0]


def do_import(source: Path, **options: Any) -> Imported:
    return import_dataset(**{"name": "Mine", "source": source, **SAID, **options})


def test_a_name_that_a_plugin_has_or_that_is_none_is_refused(source: Path, imports: Path) -> None:
    with pytest.raises(DataError, match="'experiment' already offers a dataset 'Rocksalt'"):
        do_import(source, name="Rocksalt", overwrite=True)
    for name in ("../up", ".hidden", "a b", ""):
        with pytest.raises(DataError, match="cannot be the name of a dataset"):
            do_import(source, name=name)
    assert not imports.exists()


def test_a_dataset_is_replaced_only_when_that_is_asked_for(source: Path) -> None:
    first = do_import(source, unit="mW/(m·K)").dataset
    with pytest.raises(DataError, match=r"imported already.*--replace"):
        do_import(source)
    assert load_dataset("Mine").digest == first.digest
    second = do_import(source, overwrite=True).dataset
    assert load_dataset("Mine").digest == second.digest != first.digest


def test_a_failed_replacement_leaves_what_was_there(
    source: Path, imports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = do_import(source).dataset

    def fail(*paths: object) -> None:
        raise OSError(28, "No space left on device")

    before = sorted(imports.rglob("*"))
    for function in (
        "harness.apps.imports.imported.write_neutral",
        "harness.apps.imports.imported._write_card",
    ):
        with monkeypatch.context() as patch:
            patch.setattr(function, fail)
            with pytest.raises(DataError, match="cannot be written: No space left on device"):
                do_import(source, unit="mW/(m·K)", overwrite=True)

    def fail_second(old: Path, new: Path, rename: Any = os.rename) -> None:
        if old.name == "new":
            fail()
        rename(old, new)

    with monkeypatch.context() as patch:
        patch.setattr("harness.files.os.rename", fail_second)
        with pytest.raises(DataError, match="cannot be written"):
            do_import(source, unit="mW/(m·K)", overwrite=True)
    assert load_dataset("Mine").digest == first.digest
    assert sorted(imports.rglob("*")) == before  # nothing is left lying about


def test_what_a_killed_import_left_is_tidied_up_but_no_dataset_is(
    source: Path, imports: Path
) -> None:
    do_import(source)
    aside = imports / ".Mine.unfinished-killed"
    (aside / "new").mkdir(parents=True)
    (imports / "Mine").rename(aside / "old")  # killed while it was replaced
    assert [spec.name for spec in imported_datasets()] == ["Mine"]
    assert [path.name for path in imports.iterdir()] == ["Mine"]


def test_an_import_that_is_removed_is_gone(source: Path, imports: Path) -> None:
    do_import(source)
    remove_imported("Mine")
    assert list(imports.iterdir()) == []
    assert "Mine" not in Registry().datasets
    with pytest.raises(DataError, match=r"No dataset 'Mine' was imported.*Imported: \(none\)"):
        remove_imported("Mine")
    with pytest.raises(DataError, match="No dataset 'Rocksalt' was imported"):
        remove_imported("Rocksalt")


def test_equal_imports_are_equal_bytes_and_can_be_copied_elsewhere(
    source: Path, imports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = do_import(source)
    files = {path.name: path.read_bytes() for path in first.folder.iterdir()}
    again = do_import(source, overwrite=True)
    assert {path.name: path.read_bytes() for path in again.folder.iterdir()} == files
    shutil.copytree(imports, tmp_path / "colleague")
    monkeypatch.setenv("HARNESS_IMPORTS", str(tmp_path / "colleague"))
    assert load_dataset("Mine").digest == first.dataset.digest


def test_the_card_says_what_was_given(source: Path) -> None:
    facts = {"title": 'My "own" κ', "licence": "CC BY 4.0", "notes": "two\nlines \\ and more"}
    imported = do_import(source, temperature="unknown", facts=facts, unit="mW/mK")
    card = load_dataset("Mine").card
    assert card == imported.dataset.card
    assert (card.title, card.licence, card.method) == ('My "own" κ', "CC BY 4.0", "measured")
    assert (card.unit, card.temperature_kelvin, card.rows) == (
        "mW/(m·K)",
        None,
        len(load_dataset("Mine")),
    )
    assert card.notes.startswith("two\nlines \\ and more\nImported from rows.jsonl (sha256 ")
    with pytest.raises(DataError, match="The card of 'Other' cannot be written"):
        do_import(source, name="Other", facts={"license": "MIT"})


def test_what_is_missing_is_asked_for_and_what_is_given_is_not(source: Path) -> None:
    asked: list[str] = []

    def ask(question: Question) -> str:
        asked.append(question.option)
        return {"unit": "W/(m·K)", "temperature": "77", "method": "flash"}[question.field]

    imported = do_import(source, unit=None, temperature=None, method=None, ask=ask)
    assert asked == ["--unit", "--temperature", "--method"]
    assert imported.dataset.card.temperature_kelvin == 77
    assert imported.remarks == ("id column: id", "target column: klat")


def test_datasets_are_listed_without_being_read(imports: Path) -> None:
    for name in ("Good", ".hidden", "no name"):
        (imports / name).mkdir(parents=True)
    (imports / "file.txt").write_text("x")
    assert [spec.name for spec in imported_datasets(Locations())] == ["Good"]


def test_a_database_in_which_one_row_has_a_key_id_keeps_all_rows(rocksalt, tmp_path) -> None:
    pytest.importorskip("ase")
    from ase.db import connect

    with connect(tmp_path / "all.db") as database:
        for number, (atoms, kappa) in enumerate(
            zip(atoms_of(rocksalt), rocksalt.targets, strict=True)
        ):
            database.write(atoms, kappa=float(kappa), data={"id": "mine"} if number == 1 else {})
    imported = import_dataset("Mine", tmp_path / "all.db", **SAID)
    ids = load_dataset("Mine").ids
    assert not imported.rejected
    assert (len(ids), ids[1], ids[2]) == (len(rocksalt), "mine", "all:3")


def test_every_crystal_is_looked_at_once(
    rocksalt: Dataset, tmp_path: Path, imports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[Crystal] = []
    monkeypatch.setattr(row_checks, "check_geometry", looked_at.append)
    import_dataset("Mine", cif_folder(rocksalt, tmp_path)[0], **SAID)
    assert len(looked_at) == len(rocksalt)


def test_of_two_imports_of_one_name_at_once_one_succeeds(
    rocksalt: Dataset, tmp_path: Path, imports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one is begun, and ends, before the first writes its rows."""
    source, home = cif_folder(rocksalt, tmp_path)[0], "harness.apps.imports.importing"

    def write_late(*arguments: Any, **options: Any) -> Path:
        monkeypatch.setattr(f"{home}.write_imported", write_imported)
        import_dataset("Mine", source, **SAID)
        return write_imported(*arguments, **options)

    monkeypatch.setattr(f"{home}.write_imported", write_late)
    with pytest.raises(DataError, match="'Mine' was imported meanwhile"):
        import_dataset("Mine", source, **SAID)
    assert load_dataset("Mine").ids == rocksalt.ids
