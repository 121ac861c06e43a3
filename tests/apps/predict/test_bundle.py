"""Bundles: what is exported predicts what was stored, and is refused where it would not."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file, save_file

from harness import (
    Bundle,
    BundleError,
    Crystal,
    DataError,
    HarnessError,
    PluginError,
    StoreError,
    api,
    load_bundle,
    load_dataset,
)
from harness.apps.predict import predicting
from harness.apps.predict.bundle import RECORD_FILE, TENSOR_FILE, BundleRecord, read_record
from harness.apps.predict.exporter import find_ensemble, parse_cell
from harness.apps.predict.prediction_table import columns_of
from harness.plugin.cell import CELL
from harness.results.records import PlannedCell
from harness.results.store import Store
from harness_properties import KAPPA

BENCHMARK = """
train_on = ["Rocksalt", "Tetrahedral"]
test_on = ["Rocksalt", "Experiment"]
backbones = ["megnet"]
heads = [{ name = "mlp", hidden = [16] }, "ridge"]
transfers = ["scratch", { name = "two-stage", source = "Tetrahedral", source_start = "random" }]
baselines = [{ head = "nearest" }]
runs = 3
metrics = ["mae-log", "mape"]

[training]
epochs = 2
loss = "mae-log"
"""
ROCKSALT = [[0.0, 2.7, 2.7], [2.7, 0.0, 2.7], [2.7, 2.7, 0.0]]


@pytest.fixture(scope="module")
def leaderboard(tmp_path_factory) -> Path:
    """Two backbones, trained and in closed form, on embedded data."""
    folder = tmp_path_factory.mktemp("leaderboard")
    (folder / "benchmark.toml").write_text(BENCHMARK)
    api.run(folder)
    return folder


@pytest.fixture(scope="module")
def folder(leaderboard: Path) -> Path:
    """A bundle of MEGNet."""
    cell = "backbone=megnet,head=mlp,transfer=scratch,train_on=Rocksalt"
    predicting.export(leaderboard, cell, leaderboard / "bundle")
    return leaderboard / "bundle"


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    return load_bundle(folder)


def rocksalt(*species: str, a: float = 1.0) -> Crystal:
    sites = np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]])
    return Crystal(np.array(ROCKSALT) * a, species, sites)


# --- what is exported ---------------------------------------------------------------------------

CELLS = [
    "backbone=megnet,head=mlp,transfer=scratch,train_on=Rocksalt",
    "backbone=megnet,head=mlp,transfer=two-stage,train_on=Rocksalt",
    "backbone=megnet,head=ridge,transfer=scratch,train_on=Rocksalt",
    "transfer=baseline,train_on=Rocksalt",
]


@pytest.mark.parametrize("cell", CELLS)
def test_a_bundle_predicts_what_is_stored_for_the_test_rows(cell, leaderboard, tmp_path) -> None:
    record = predicting.export(leaderboard, cell, tmp_path / "bundle")
    loaded = load_bundle(tmp_path / "bundle")
    data = load_dataset("Experiment")
    crystals = dict(zip(data.ids, data.crystals, strict=True))
    store = Store(leaderboard)
    keys = {
        c.key: c.test_on for c in store.read_plan().cells if c.chain[-1] == record.stacks[0].stage
    }
    assert sorted(keys.values()) == ["Experiment", "Rocksalt"]
    assert {one.cell["test_on"] for one in record.cells} == set(keys.values())
    for key in keys:
        stored = store.read_predictions(key)
        ids = list(dict.fromkeys(stored["id"]))
        kappa = pd.DataFrame(
            loaded.judge([_row(name, crystals[name]) for name in ids]).predicted,
            index=list(record.runs),
            columns=ids,
        )
        again = [
            kappa.loc[run, name] for run, name in zip(stored["run"], stored["id"], strict=True)
        ]
        np.testing.assert_allclose(again, stored["prediction"], rtol=2e-5)


def _row(name: str, crystal: Crystal):
    from harness import StructureRow

    return StructureRow(name, crystal)


def test_the_record_says_what_it_was_trained_on(bundle: Bundle, leaderboard: Path) -> None:
    record = bundle.record
    data = load_dataset("Rocksalt")
    assert set(record.elements) <= {symbol for c in data.crystals for symbol in c.species}
    assert set(record.formulas) <= set(data.formulas)
    assert record.datasets["Rocksalt"] == (data.digest, len(data))
    assert record.stacks[0].cutoff_angstrom == 4.0
    assert record.unit == "W/(m·K)"
    lines = [
        line.scores["all"]["mae-log"]
        for line in Store(leaderboard).read_results()
        if line.stage == record.stacks[0].stage and line.test_on == "Rocksalt"
    ]
    (own,) = [one for one in record.cells if one.cell["test_on"] == "Rocksalt"]
    assert own.metrics["mae-log"][0] == pytest.approx(np.mean(lines))
    assert record.calibration_rows == len(bundle.residuals) > 0
    assert list(own.coverage) == ["0.5", "0.8", "0.9", "0.95"]


def test_a_chain_has_seen_what_all_its_stages_have(leaderboard, tmp_path) -> None:
    record = predicting.export(
        leaderboard, "backbone=megnet,head=mlp,transfer=two-stage,train_on=Rocksalt", tmp_path / "b"
    )
    assert set(record.datasets) == {"Rocksalt", "Tetrahedral"}
    assert "Si" in record.elements  # of Tetrahedral alone


# --- cells ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("train_on=Rocksalt", "4 trained ensembles meet"),
        ("transfer=frozen", "No trained ensemble meets transfer=frozen"),
        ("transfer", "expected column=value"),
        ("trian_on=Rocksalt", "Did you mean 'train_on'"),
    ],
)
def test_a_cell_that_is_none_or_several_is_refused(cell, told, leaderboard, tmp_path) -> None:
    with pytest.raises(BundleError, match=told):
        predicting.export(leaderboard, cell, tmp_path / "b")
    assert not list(tmp_path.iterdir())


def planned(**columns: str) -> PlannedCell:
    """A cell with these columns; the others say nothing."""
    known: dict[str, Any] = dict.fromkeys(CELL, "x")
    return PlannedCell(key="k", **(known | columns), leak_free=True, chain=("k",))


def test_a_label_may_hold_the_signs_of_conditions() -> None:
    label = "chgnet gp (length_scales=blocks, noise=1)"
    assert parse_cell(label) == {"model": label}
    assert parse_cell(f"{label}, train_on=T") == {"model": label, "train_on": "T"}


def test_settings_are_part_of_a_label_and_may_be_left_out_where_that_is_clear() -> None:
    labels = ["two-stage(source=A, epochs=1)", "two-stage(source=B, epochs=1)", "scratch"]
    cells = [planned(head="h", train_on="T", transfer=label) for label in labels]
    exact = parse_cell(f"transfer={labels[1]},train_on=T")
    assert exact == {"transfer": labels[1], "train_on": "T"}
    assert find_ensemble(cells, exact) == [cells[1]]
    assert find_ensemble(cells[1:], {"transfer": "two-stage"}) == [cells[1]]
    with_settings = [cell.model_copy(update={"head": "h(width=3)"}) for cell in cells]
    mixed = {"transfer": labels[0], "head": "h"}
    assert find_ensemble(with_settings, mixed) == [with_settings[0]]
    with pytest.raises(BundleError, match=r"transfer=two-stage\(source=B"):
        find_ensemble(cells, {"transfer": "two-stage"})


def test_labels_may_have_commas_and_searches_need_no_numbers() -> None:
    labels = ["default", "tuned, 60 trials", "mean of the best 5 of 60 trials"]
    cells = [planned(tuning=label) for label in labels]
    exact = parse_cell("head=x,tuning=tuned, 60 trials, train_on=x")
    assert exact == {"head": "x", "tuning": labels[1], "train_on": "x"}
    assert find_ensemble(cells, exact) == [cells[1]]
    assert find_ensemble(cells, {"tuning": "tuned"}) == [cells[1]]
    with pytest.raises(BundleError, match="tuning=tuned, 60 trials"):
        find_ensemble(cells, parse_cell("head=x"))


def test_weights_that_are_not_there_come_with_the_command_that_makes_them(
    leaderboard, tmp_path
) -> None:
    passed_on = tmp_path / "passed-on"
    shutil.copytree(leaderboard, passed_on)
    for weights in passed_on.glob("stages/*/weights.safetensors"):
        weights.unlink()
    with pytest.raises(BundleError, match=r"harness run .*passed-on .*train_on=\[\"Rocksalt\"\]"):
        predicting.export(passed_on, CELLS[0], tmp_path / "b")


def test_weights_that_predict_something_else_are_refused(leaderboard, tmp_path) -> None:
    other = tmp_path / "other"
    shutil.copytree(leaderboard, other)
    store = Store(other)
    key = next(c.key for c in store.read_plan().cells if c.backbone == "megnet")
    stored = store.read_predictions(key)
    store.write_predictions(key, stored.assign(prediction=stored["prediction"] * 1.01))
    with pytest.raises(BundleError, match="does not predict what is stored"):
        predicting.export(other, CELLS[0], tmp_path / "b")


def test_frozen_results_are_exported_as_any_others(leaderboard, tmp_path) -> None:
    frozen = tmp_path / "frozen"
    shutil.copytree(leaderboard, frozen)
    api.freeze(frozen)
    loose = predicting.export(leaderboard, CELLS[0], tmp_path / "a")
    assert predicting.export(frozen, CELLS[0], tmp_path / "b") == loose


def test_nothing_is_written_over(folder, leaderboard) -> None:
    with pytest.raises(BundleError, match="is there already"):
        predicting.export(leaderboard, CELLS[0], folder)


def test_without_results_the_error_says_what_to_run(tmp_path) -> None:
    (tmp_path / "benchmark.toml").write_text(BENCHMARK)
    with pytest.raises(StoreError, match="Run `harness run` first"):
        predicting.export(tmp_path, CELLS[0], tmp_path / "b")


# --- loading ----------------------------------------------------------------------------------


def test_a_bundle_is_json_and_tensors_and_nothing_else(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [RECORD_FILE, TENSOR_FILE]
    content = (folder / TENSOR_FILE).read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    kinds = {name.removeprefix("0.").split(".")[0] for name in header}
    assert kinds == {"backbone", "head", "training", "residuals"}


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def rewrite(copy: Path, **changes: object) -> None:
    """Changes the record, and makes its digest fit again, as someone who knows how would."""
    content = json.loads((copy / RECORD_FILE).read_text())
    content.pop("digest")
    record = BundleRecord.model_validate({**content, **changes})
    digest = {"digest": record.digest}
    (copy / RECORD_FILE).write_text(json.dumps({**record.model_dump(mode="json"), **digest}))


def test_a_changed_file_is_refused(copy: Path) -> None:
    tensors = copy / TENSOR_FILE
    whole = tensors.read_bytes()
    tensors.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(BundleError, match=rf"{TENSOR_FILE} was changed"):
        load_bundle(copy)
    tensors.write_bytes(whole)
    load_bundle(copy)
    record = copy / RECORD_FILE
    text = record.read_text()
    record.write_text(
        text.replace('"MgO"', '"MgS"') if '"MgO"' in text else text.replace("4.0", "5.0")
    )
    with pytest.raises(BundleError, match=rf"{RECORD_FILE} was changed"):
        load_bundle(copy)
    record.write_text(text[:-20])
    with pytest.raises(BundleError, match=rf"{RECORD_FILE} is damaged"):
        load_bundle(copy)


def change_tensors(copy: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the tensors, and makes all digests fit again."""
    tensors = load_file(copy / TENSOR_FILE)
    change(tensors)
    save_file(tensors, copy / TENSOR_FILE)
    rewrite(copy, tensors_sha256=sha256((copy / TENSOR_FILE).read_bytes()).hexdigest())


def write_tensor_file(copy: Path, content: bytes) -> None:
    (copy / TENSOR_FILE).write_bytes(content)
    rewrite(copy, tensors_sha256=sha256(content).hexdigest())


def name_of(tensors: Mapping[str, Any], part: str) -> str:
    return next(name for name in sorted(tensors) if name.startswith(f"0.{part}."))


TENSOR_DAMAGE: dict[str, Callable[[dict[str, Any]], object]] = {
    "no tensors": lambda t: t.clear(),
    "no residuals": lambda t: t.pop("residuals"),
    "fewer residuals": lambda t: t.update(residuals=t["residuals"][1:].clone()),
    "residuals of another type": lambda t: t.update(residuals=t["residuals"].float()),
    "no training rows": lambda t: t.pop("0.training.0"),
    "training rows without an axis": lambda t: t.update({"0.training.0": t["0.training.0"][0]}),
    "training rows of another width": lambda t: t.update(
        {"0.training.0": t["0.training.0"][:, 1:].clone()}
    ),
    "training rows that are no numbers": lambda t: t["0.training.0"].fill_(float("nan")),
    "training rows of another member": lambda t: t.update({"0.training.9": t["0.training.0"] + 0}),
    "another stack": lambda t: t.update({"7.head.x": t["residuals"] + 0}),
    "a tensor of no name": lambda t: t.update(x=t["residuals"] + 0),
    "a missing weight": lambda t: t.pop(name_of(t, "head")),
    "a further weight": lambda t: t.update({"0.head.x": t["residuals"] + 0}),
    "fewer members": lambda t: t.update(
        {(n := name_of(t, "backbone")): t[n][1:].clone() if t[n].ndim else t[n][None]}
    ),
    "further members": lambda t: t.update(
        {(n := name_of(t, "head")): t[n].repeat(2, *[1] * (t[n].ndim - 1))}
    ),
    "another shape": lambda t: t.update({(n := name_of(t, "head")): t[n][..., None].clone()}),
    "no axis": lambda t: t.update({(n := name_of(t, "head")): t[n].sum()}),
}


@pytest.mark.parametrize("change", TENSOR_DAMAGE.values(), ids=TENSOR_DAMAGE.keys())
def test_tensors_that_do_not_fit_are_refused(copy: Path, change) -> None:
    change_tensors(copy, change)
    with pytest.raises(BundleError, match=r"damaged|tensor"):
        load_bundle(copy)


@pytest.mark.parametrize("content", [b"", b"PK", b"\xff" * 300, b"\x08" + b"\0" * 7 + b"{}  xxxx"])
def test_what_is_no_file_of_tensors_is_refused_though_its_digest_fits(copy, content) -> None:
    write_tensor_file(copy, content)
    with pytest.raises(BundleError, match=rf"{TENSOR_FILE} is damaged"):
        read_record(copy)


def break_record(copy: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((copy / RECORD_FILE).read_text())
    change(content)
    (copy / RECORD_FILE).write_text(json.dumps(content))


RECORD_DAMAGE: dict[str, Callable[[dict[str, Any]], object]] = {
    "no runs": lambda c: c.update(runs=[], sources=[]),
    "a further run": lambda c: c.update(runs=[*c["runs"], 99]),
    "a run of nothing": lambda c: c["sources"].__setitem__(0, []),
    "a source that is not there": lambda c: c["sources"].__setitem__(0, [99]),
    "a negative source": lambda c: c["sources"].__setitem__(0, [-1]),
    "no stacks": lambda c: c.update(stacks=[]),
    "no members": lambda c: c["stacks"][0].update(runs=[]),
    "fewer scalers": lambda c: c["stacks"][0]["scalers"].pop(),
    "fewer seeds": lambda c: c["stacks"][0]["seeds"].pop(),
    "a scaler without width": lambda c: c["stacks"][0]["scalers"][0].__setitem__(2, 0.0),
    "a number too large": lambda c: c["stacks"][0]["seeds"].__setitem__(0, "9" * 5000),
    "a probe of fewer runs": lambda c: c["probes"][0]["kappa"].pop(),
    "a probe of fewer atoms": lambda c: c["probes"][0]["species"].pop(),
    "an unknown key": lambda c: c.update(code="print()"),
    "a missing key": lambda c: c.pop("unit"),
    "another kind": lambda c: c.update(stacks={"0": 1}),
    "a list": lambda c: c.update(format=[2]),
}


@pytest.mark.parametrize("change", RECORD_DAMAGE.values(), ids=RECORD_DAMAGE.keys())
def test_a_record_that_contradicts_itself_is_refused(copy: Path, change) -> None:
    break_record(copy, change)
    with pytest.raises(BundleError, match=rf"{RECORD_FILE} is (damaged|a bundle of format)"):
        read_record(copy)


@pytest.mark.parametrize(
    "text", ["[" * 10**5, '{"a":' * 10**5, "[]", '"x"', "9" * 5000, "\0", "", '{"digest": 1}']
)
def test_what_is_no_record_is_refused(copy: Path, text: str) -> None:
    (copy / RECORD_FILE).write_text(text)
    with pytest.raises(BundleError, match=rf"{RECORD_FILE} is damaged"):
        read_record(copy)


def test_settings_nested_deeply_are_refused(copy: Path) -> None:
    deep: dict[str, Any] = {}
    for _ in range(400):
        deep = {"x": deep}
    break_record(copy, lambda content: content["stacks"][0]["head"]["settings"].update(x=deep))
    with pytest.raises(BundleError, match=RECORD_FILE):
        read_record(copy)


def test_settings_that_the_plugin_does_not_have_are_refused(copy: Path) -> None:
    (stack,) = read_record(copy).stacks
    for settings in ({"name": 5}, {"no-such": 1}, {"hidden": "x"}):
        part = stack.head.model_copy(update={"settings": settings})
        rewrite(copy, stacks=[stack.model_copy(update={"head": part})])
        with pytest.raises(HarnessError):
            load_bundle(copy)


@pytest.mark.parametrize("name", [RECORD_FILE, TENSOR_FILE])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir])
def test_what_is_no_file_is_not_read(copy: Path, name: str, make) -> None:
    (copy / name).unlink()
    make(copy / name)
    with pytest.raises(BundleError, match=rf"{name}.*not a regular file"):
        read_record(copy)


def test_other_formats_and_no_bundles_are_refused(copy: Path, tmp_path: Path) -> None:
    rewrite(copy, format=99)
    with pytest.raises(BundleError, match="format 99"):
        read_record(copy)
    with pytest.raises(BundleError, match="is no bundle"):
        read_record(tmp_path)


def test_a_property_that_is_in_another_unit_by_now_is_refused(copy: Path) -> None:
    rewrite(copy, unit="mW/(m·K)")
    with pytest.raises(BundleError, match=r"in mW/\(m·K\), which is in W/\(m·K\) here"):
        load_bundle(copy)


def test_code_that_predicts_otherwise_is_found_out(copy: Path) -> None:
    record = read_record(copy)
    (stack,) = record.stacks
    scalers = tuple((offset, mean + 0.1, std) for offset, mean, std in stack.scalers)
    rewrite(copy, stacks=[stack.model_copy(update={"scalers": scalers})])
    with pytest.raises(BundleError, match="does not predict what it did"):
        load_bundle(copy)


def test_a_plugin_that_is_missing_or_has_other_code_is_named(tiny, tmp_path) -> None:
    toy = tmp_path / "toy"
    toy.mkdir()
    (toy / "benchmark.toml").write_text(
        'train_on = ["Toy"]\ntest_on = ["Toy"]\nbackbones = ["tiny"]\nbaselines = []\nruns = 2\n'
        'heads = [{ name = "mlp", hidden = [4] }]\n[training]\nepochs = 1\nloss = "mae-log"\n'
    )
    api.run(toy, plugins=[tiny])
    predicting.export(toy, "transfer=scratch", toy / "bundle", plugins=[tiny])
    assert len(load_bundle(toy / "bundle", plugins=[tiny]).predict([rocksalt("Na", "Cl")])) == 1
    with pytest.raises(PluginError, match=r"'tiny' of the plugin .*Install it, or name its file"):
        load_bundle(toy / "bundle")
    edited = tmp_path / tiny.name
    shutil.copytree(tiny.parent / "cards", tmp_path / "cards")
    edited.write_text(tiny.read_text() + "\n# edited\n")
    with pytest.raises(PluginError, match="its code here is another one"):
        load_bundle(toy / "bundle", plugins=[edited])


# --- predicting -------------------------------------------------------------------------------


def test_structures_of_every_library_are_one(bundle: Bundle) -> None:
    crystal = rocksalt("Na", "Cl")
    structure = crystal.to_pymatgen()
    things = [crystal, structure]
    with suppress(ImportError):
        things.append(structure.to_ase_atoms())
    frame = bundle.predict(things)
    assert list(frame.columns) == list(columns_of(KAPPA))
    assert frame["kappa_mean"].to_numpy() == pytest.approx(frame["kappa_mean"][0], rel=1e-5)
    assert (frame["reason"] == "").all()
    with pytest.raises(DataError, match="Structure 0 is str"):
        bundle.predict(["NaCl"])


def test_mean_and_std_are_of_kappa_and_the_interval_is_around_the_geometric_mean(bundle) -> None:
    crystals = [rocksalt("Na", "Cl"), rocksalt("Mg", "O", a=0.8)]
    frame = bundle.predict(crystals, level=0.5)
    kappa = bundle.judge([_row(str(n), c) for n, c in enumerate(crystals)]).predicted
    assert frame["kappa_mean"].to_numpy() == pytest.approx(kappa.mean(axis=0))
    assert frame["kappa_std"].to_numpy() == pytest.approx(kappa.std(axis=0, ddof=1))
    assert frame["kappa_max"].to_numpy() == pytest.approx(kappa.max(axis=0))
    middle = np.exp(np.log(kappa).mean(axis=0))
    assert frame["kappa_geometric"].to_numpy() == pytest.approx(middle)
    assert np.sqrt(frame["low"] * frame["high"]).to_numpy() == pytest.approx(middle)
    score = frame["kappa_max"] * frame["kappa_std"] / frame["kappa_mean"]
    assert frame["max_std_over_mean"].to_numpy() == pytest.approx(score.to_numpy())
    wide = bundle.predict(crystals, level=0.8)
    assert (wide["high"] >= frame["high"]).all()
    unbounded = bundle.predict(crystals, level=0.999)
    assert (unbounded["low"] == 0).all()
    assert np.isinf(unbounded["high"]).all()


def test_what_is_not_to_be_trusted_says_why(bundle: Bundle) -> None:
    frame = bundle.predict(
        [rocksalt("Na", "Cl"), rocksalt("Au", "Cl"), rocksalt("Na", "Cl", a=2.5)]
    )
    assert frame["in_training"].tolist()[0] == ("ClNa" in bundle.record.formulas)
    assert "not in the training data: Au" in frame["warnings"][1]
    assert "2 atoms without a neighbour within 4 Å" in frame["warnings"][2]
    assert frame["applicable"].tolist()[1:] == [False, False]
    assert np.isfinite(frame["kappa_mean"]).all()


def test_far_from_the_training_data_is_a_warning(bundle: Bundle) -> None:
    frame = bundle.predict(load_dataset("Experiment").crystals)
    far = frame["distance"] > 1
    assert far.any()
    assert frame.loc[far, "warnings"].str.contains("far from the training data").all()
    assert not frame.loc[~far, "warnings"].str.contains("far from").any()


def test_a_bad_structure_is_a_row_with_a_reason(bundle: Bundle) -> None:
    flat = Crystal(np.eye(3) * 0.1, ("Na",), np.zeros((1, 3)))
    frame = bundle.predict([rocksalt("Na", "Cl"), rocksalt("Og", "Cl"), flat])
    assert frame["reason"].tolist()[0] == ""
    assert "megnet does not know Og" in frame["reason"][1]
    assert "Å³" in frame["reason"][2]
    assert frame["kappa_mean"].isna().tolist() == [False, True, True]
    assert frame["applicable"].isna().tolist() == [False, True, True]


def test_one_structure_is_no_list_of_them(bundle: Bundle) -> None:
    from pymatgen.core import Lattice, Structure

    salt = rocksalt("Na", "Cl")
    both: list[Any] = [salt, Structure(Lattice(salt.lattice), salt.species, salt.frac_coords)]
    for one in both:
        with pytest.raises(DataError, match=r"write predict\(\[structure\]\)"):
            bundle.predict(one)


def test_one_structure_that_stops_the_network_costs_itself_only(bundle, monkeypatch) -> None:
    crystals = [rocksalt("Na", "Cl", a=1 + n / 100) for n in range(8)]
    whole = bundle.predict(crystals)["kappa_mean"]
    predict = type(bundle.ensemble).predict

    def stumble(self, encodings):
        if any(float(e["length"][0]) == float(bad["length"][0]) for (e,) in encodings):
            raise RuntimeError("a shape is wrong\nand more")
        return predict(self, encodings)

    bad = bundle.ensemble.encoders[0].backbone.encode(crystals[5])
    monkeypatch.setattr(type(bundle.ensemble), "predict", stumble)
    frame = bundle.predict(crystals)
    assert (
        frame["reason"].tolist()
        == [""] * 5 + ["RuntimeError: a shape is wrong; and more"] + [""] * 2
    )
    kept = frame["reason"] == ""
    assert frame["kappa_mean"][kept].to_numpy() == pytest.approx(whole[kept].to_numpy(), rel=1e-5)
