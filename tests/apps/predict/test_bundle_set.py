"""Several bundles at once: one table, every crystal encoded once, no number other than alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import (
    Bundle,
    BundleError,
    BundleSet,
    Crystal,
    PluginError,
    StructureRow,
    import_dataset,
    load_bundle,
    load_bundles,
    read_neutral,
    run,
)
from harness.apps.predict import predicting
from harness.apps.predict.bundle import agree
from harness.apps.predict.bundle_set import name_folders
from harness.apps.predict.prediction_table import (
    SHARED,
    columns_of,
    find_columns,
    joint_schema,
    lay_out,
    schema,
)
from harness_properties import BAND_GAP, FORMATION_ENERGY, KAPPA

FCC = [[0.0, 2.8, 2.8], [2.8, 0.0, 2.8], [2.8, 2.8, 0.0]]


def rocksalt(*species: str, a: float = 1.0) -> Crystal:
    return Crystal(np.array(FCC) * a, species, np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]]))


@pytest.fixture(scope="module")
def kappa(toy_bundle: Path, tiny: Path) -> Bundle:
    return load_bundle(toy_bundle, plugins=[tiny])


@pytest.fixture(scope="module")
def energy(energy_bundle: Path, tiny: Path) -> Bundle:
    return load_bundle(energy_bundle, plugins=[tiny])


@pytest.fixture
def both(toy_bundle: Path, energy_bundle: Path, tiny: Path) -> BundleSet:
    return load_bundles([toy_bundle, energy_bundle], plugins=[tiny])


# --- the table --------------------------------------------------------------------------------

rows_of_all_kinds = st.lists(
    st.sampled_from(
        [
            StructureRow("salt", rocksalt("Na", "Cl")),
            StructureRow("wide", rocksalt("K", "Br", a=1.2), remarks=("two settings",)),
            StructureRow("unseen", rocksalt("Au", "Cl")),
            StructureRow("unread", None, "no lattice"),
        ]
    ),
    max_size=6,
)


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=rows_of_all_kinds, level=st.sampled_from((0.5, 0.9)), first=st.booleans())
def test_a_joint_table_is_the_tables_of_the_bundles_side_by_side(
    rows, level, first, kappa: Bundle, energy: Bundle
) -> None:
    bundles = (kappa, energy) if first else (energy, kappa)
    layout = lay_out([(one.property.name, one.property) for one in bundles])
    together = BundleSet(bundles, layout).table(rows, level)
    assert together.schema.equals(joint_schema(layout))
    for bundle, columns in zip(bundles, layout, strict=True):
        alone = bundle.table(rows, level)
        here = together.select([columns.column(name) for name in alone.column_names])
        assert here.rename_columns(alone.column_names).equals(alone)
    alone = bundles[0].table(rows, level)
    assert BundleSet(bundles[:1], lay_out([("x", bundles[0].property)])).table(rows, level) == alone


def test_columns_begin_with_what_the_property_calls_its_own(both: BundleSet) -> None:
    names = both.predict([rocksalt("Na", "Cl")]).columns.tolist()
    assert names[:3] == list(SHARED)
    assert {"kappa_mean", "kappa_low", "kappa_std_over_mean", "kappa_reason"} < set(names)
    own = [name for name in names if name.startswith("formation_energy_per_atom_")]
    endings = ("mean", "std", "max", "low", "high", "distance", "in_training", "applicable")
    assert own == [f"formation_energy_per_atom_{end}" for end in (*endings, "warnings", "reason")]
    assert len(set(names)) == len(names) == 3 + 13 + 10


@pytest.mark.parametrize("spec", [KAPPA, FORMATION_ENERGY])
def test_alone_a_bundle_has_the_columns_it_always_had(spec) -> None:
    (alone,) = layout = lay_out([("any", spec)])
    assert joint_schema(layout).equals(schema(spec))
    assert [alone.column(name) for name in columns_of(spec)] == list(columns_of(spec))


def test_bundles_of_one_property_are_told_apart_by_their_names() -> None:
    layout = lay_out([("mix", KAPPA), ("aflow", KAPPA), ("gap", BAND_GAP)])
    assert [one.of_property("mean") for one in layout] == [
        "mix_kappa_mean",
        "aflow_kappa_mean",
        "band_gap_mean",
    ]
    assert [one.column("low") for one in layout] == [
        "mix_kappa_low",
        "aflow_kappa_low",
        "band_gap_low",
    ]
    assert [one.label for one in layout] == ["mix κ", "aflow κ", "E_g"]
    with pytest.raises(BundleError, match="'mix' and 'mix' would both have a column 'mix_kappa_"):
        lay_out([("mix", KAPPA), ("mix", KAPPA)])
    largest = replace(KAPPA, name="largest", column="kappa_max")
    with pytest.raises(BundleError, match="'kappa_max_std_over_mean'"):
        lay_out([("a", KAPPA), ("b", largest)])


def test_a_bundle_is_meant_by_its_columns_its_name_or_its_property() -> None:
    layout = lay_out([("mix", KAPPA), ("aflow", KAPPA), ("gap", BAND_GAP)])
    for name, place in (("mix_kappa", 0), ("aflow", 1), ("band-gap", 2), ("band_gap", 2)):
        assert find_columns(layout, name) == layout[place]
    with pytest.raises(BundleError, match="may be mix_kappa or aflow_kappa: expected one of"):
        find_columns(layout, "thermal-conductivity")
    with pytest.raises(BundleError, match="Did you mean 'band_gap'"):
        find_columns(layout, "bandgap")


def test_folders_give_names_unless_others_are_given(tmp_path: Path) -> None:
    odd = tmp_path / "a=b.bundle"
    odd.mkdir()
    assert [name for name, _ in name_folders([odd, "x/mix 1.bundle", "own=x/y.bundle"])] == [
        "a_b",
        "mix_1",
        "own",
    ]
    assert name_folders({"own": "x"}) == (("own", Path("x")),)
    assert name_folders("x/mix.bundle") == (("mix", Path("x/mix.bundle")),)
    with pytest.raises(BundleError, match="The name 'a b' of a bundle: expected letters"):
        name_folders({"a b": "x"})
    for nothing in ([], {}):
        with pytest.raises(BundleError, match="No bundle is named"):
            name_folders(nothing)


# --- one pass ---------------------------------------------------------------------------------


def test_an_encoding_that_bundles_share_is_computed_once(both: BundleSet, monkeypatch) -> None:
    kinds = {type(one.ensemble.encoders[0].backbone) for one in both.bundles}
    (kind,) = kinds
    encode, encoded = kind.encode, []

    def count(self, crystal):
        encoded.append(crystal.formula)
        return encode(self, crystal)

    monkeypatch.setattr(kind, "encode", count)
    both.predict([rocksalt("Na", "Cl"), rocksalt("K", "Br")])
    assert encoded == ["ClNa", "BrK"]
    monkeypatch.setattr(kind, "encoding", property(lambda self: f"tiny of {id(self)}"))
    both.predict([rocksalt("Na", "Cl")])
    assert encoded[2:] == ["ClNa", "ClNa"]


def test_what_one_bundle_cannot_predict_has_the_numbers_of_the_others(both: BundleSet) -> None:
    backbone = both.bundles[0].ensemble.encoders[0].backbone
    backbone.elements = frozenset(("Na", "Cl"))
    crystals = [rocksalt("Na", "Cl"), rocksalt("K", "Cl")]
    frame = both.predict(crystals)
    assert frame["kappa_mean"].isna().tolist() == [False, True]
    assert frame["kappa_reason"][1] == "tiny does not know K"
    assert frame["formation_energy_per_atom_reason"].tolist() == ["", ""]
    alone = both.bundles[1].predict(crystals)["formation_energy_per_atom_mean"]
    assert frame["formation_energy_per_atom_mean"].tolist() == alone.tolist()


def test_a_crystal_that_cannot_be_encoded_is_tried_once(both: BundleSet, monkeypatch) -> None:
    kind = type(both.bundles[0].ensemble.encoders[0].backbone)
    tried = []

    def refuse(self, crystal):
        tried.append(crystal.formula)
        raise ValueError("too flat\nand more")

    monkeypatch.setattr(kind, "encode", refuse)
    frame = both.predict([rocksalt("Na", "Cl")])
    assert tried == ["ClNa"]
    for column in ("kappa_reason", "formation_energy_per_atom_reason"):
        assert frame[column].tolist() == ["ValueError: too flat; and more"]


# --- the property that is asked for -----------------------------------------------------------


def test_a_bundle_of_another_property_is_refused_by_the_names_of_both(
    toy_bundle, energy_bundle, tiny
) -> None:
    told = r"predicts lattice thermal conductivity \(thermal-conductivity\), not band gap \(band-g"
    with pytest.raises(BundleError, match=told):
        load_bundle(toy_bundle, property_name="band-gap", plugins=[tiny])
    with pytest.raises(BundleError, match=told):
        load_bundles([toy_bundle], properties=["band-gap"], plugins=[tiny])
    with pytest.raises(BundleError, match=r"None of the bundles predicts formation energy per at"):
        load_bundles(
            [toy_bundle], properties=["formation-energy", "thermal-conductivity"], plugins=[tiny]
        )
    with pytest.raises(PluginError, match="Did you mean 'band-gap'"):
        load_bundle(toy_bundle, property_name="band-gpa", plugins=[tiny])
    asked = load_bundle(energy_bundle, property_name="formation-energy", plugins=[tiny])
    assert asked.property == FORMATION_ENERGY


# --- a linear scale ---------------------------------------------------------------------------


def test_an_interval_on_a_linear_scale_is_around_the_mean(energy: Bundle) -> None:
    crystals = [rocksalt("Na", "Cl"), rocksalt("Li", "As", a=0.9)]
    frame = energy.predict(crystals, level=0.5)
    values = energy.judge([StructureRow(str(n), c) for n, c in enumerate(crystals)]).predicted
    own = {name: frame[f"formation_energy_per_atom_{name}"] for name in ("mean", "std", "max")}
    assert own["mean"].to_numpy() == pytest.approx(values.mean(axis=0))
    assert own["std"].to_numpy() == pytest.approx(values.std(axis=0, ddof=1))
    assert ((frame["low"] + frame["high"]) / 2).to_numpy() == pytest.approx(values.mean(axis=0))
    unbounded = energy.predict(crystals, level=0.999)
    assert np.isneginf(unbounded["low"]).all()
    assert np.isposinf(unbounded["high"]).all()


def test_values_next_to_zero_agree_where_they_differ_by_rounding_alone(energy, kappa) -> None:
    near = np.array([1e-9, -0.5])
    assert agree(near + 1e-6, near, energy.record)
    assert not agree(near + 1e-2, near, energy.record)
    assert not agree(np.array([1e-3]) + 1e-6, np.array([1e-3]) - 1e-6, kappa.record)


ENERGIES = """
train_on = ["Energies61"]
test_on = ["Energies61"]
backbones = ["megnet"]
heads = ["ridge"]
transfers = ["pretrained"]
baselines = []
runs = 3
"""


def write_energies(shared: Path, path: Path) -> None:
    """Writes the reference energies with the structures that they are of."""
    told = json.loads((shared / "reference" / "megnet_eform_dgl.json").read_text())
    energies = {(row["dataset"], row["id"]): row["eform"] for row in told}
    with path.open("w") as file:
        for name in ("Dataset1", "Dataset2"):
            for row in read_neutral(shared / "data" / f"{name}.jsonl.gz"):
                if (name, row["id"]) in energies:
                    own = {"formation_energy_per_atom": energies[name, row["id"]]}
                    file.write(json.dumps({**row, **own, "id": f"{name}-{row['id']}"}) + "\n")


def test_formation_energies_go_all_the_way(shared: Path, tmp_path: Path, monkeypatch) -> None:
    """Values of a network, not of nature: the pretrained backbone has seen what makes them."""
    write_energies(shared, tmp_path / "energies.jsonl")
    monkeypatch.setenv("HARNESS_IMPORTS", str(tmp_path / "imports"))
    data = import_dataset(
        "Energies61",
        tmp_path / "energies.jsonl",
        property_name="formation-energy",
        unit="eV/atom",
        method="a network",
    ).dataset
    (tmp_path / "benchmark.toml").write_text(ENERGIES)
    weights = shared / "weights"
    run(tmp_path, weights_dir=weights)
    record = predicting.export(
        tmp_path, "train_on=Energies61", tmp_path / "e.bundle", weights_dir=weights
    )
    assert (record.property_name, record.unit, len(data)) == ("formation-energy", "eV/atom", 61)
    (cell,) = record.cells
    assert cell.metrics["mae"][0] < 0.2  # the mean is off by 0.5
    assert 0.5 < cell.coverage["0.9"] <= 1
    frame = load_bundle(tmp_path / "e.bundle").predict(data.crystals)
    assert ((frame["low"] <= data.targets) & (data.targets <= frame["high"])).mean() > 0.8
    assert (frame["formation_energy_per_atom_mean"] < 0).mean() > 0.8
