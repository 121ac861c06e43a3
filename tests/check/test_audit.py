"""The audit: what datasets hold and share, what weights have seen, what is left to each cell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.check.audit import LEVELS, Audit, audit_benchmark
from harness.errors import StoreError
from harness.planning.benchmark import Benchmark
from harness.planning.plan import Plan
from harness.planning.planner import plan
from harness.plugin.locations import Locations
from harness.registry.registry import Registry

TWO_STAGE = {"name": "two-stage", "source": "Source", "source_start": "random"}

MORE_DATASETS = """
import importlib.util
from pathlib import Path

from harness.plugin import BackboneSpec, DatasetSpec, PretrainedWeights, hookimpl

spec = importlib.util.spec_from_file_location("tiny_again", {tiny!r})
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)


def load_rewritten(where):
    '''Toy's crystals, each with another cell, origin and order of sites, and 3 % longer.'''
    for row in tiny.load_toy(where):
        (a, b, c), s = row["lattice"], 1.03
        cell = [[s * x for x in v] for v in (b, c, [i + j for i, j in zip(a, b)])]
        coords = [[0.1, 0.6, 0.6], [0.1, 0.1, 0.1]]
        yield {{**row, "id": "new-" + row["id"], "lattice": cell,
               "species": row["species"][::-1], "frac_coords": coords}}


def load_gappy(where):
    rows = list(tiny.load_toy(where))
    yield from (*rows, rows[0], {{**rows[1], "id": "x", "kappa": -1.0}})


def load_supercells(where):
    '''Toy's crystals 2 × 2 × 2, each with one of 16 atoms replaced.'''
    for row in tiny.load_toy(where):
        cation, anion = row["species"]
        steps = [(i / 2, j / 2, k / 2) for i in (0, 1) for j in (0, 1) for k in (0, 1)]
        coords = [[x + shift for x in step] for shift in (0, 0.25) for step in steps]
        lattice = [[2 * x for x in v] for v in row["lattice"]]
        yield {{**row, "id": "big-" + row["id"], "lattice": lattice, "frac_coords": coords,
               "species": ["Cs"] + [cation] * 7 + [anion] * 8}}


class Learned(tiny.TinyBackbone):
    def find_pretrained(self, locations):
        return PretrainedWeights("tiny-weights", Path(), "0" * 64, "every rocksalt")


class Secretive(tiny.TinyBackbone):
    def find_pretrained(self, locations):
        return PretrainedWeights("found-somewhere", Path(), "1" * 64, "")


@hookimpl
def register_datasets():
    card = tiny.CARDS / "toy.toml"
    return [DatasetSpec("Rewritten", card, load_rewritten), DatasetSpec("Gappy", card, load_gappy),
            DatasetSpec("Supercells", card, load_supercells)]


@hookimpl
def register_backbones():
    return [BackboneSpec("learned", "", tiny.TinySettings, Learned),
            BackboneSpec("secretive", "", tiny.TinySettings, Secretive)]
"""


@pytest.fixture
def planned(tiny: Path, tmp_path: Path) -> Callable[..., Plan]:
    more = tmp_path / "more.py"
    more.write_text(MORE_DATASETS.format(tiny=str(tiny)))
    registry = Registry([tiny, more])

    def make(locations: Locations | None = None, **changes: Any) -> Plan:
        settings = {
            "name": "test",
            "train_on": ["Toy"],
            "test_on": ["Toy"],
            "backbones": ["tiny"],
            "baselines": [],
            "runs": 2,
            **changes,
        }
        return plan(Benchmark.model_validate(settings), registry, locations or Locations())

    return make


@pytest.fixture
def audited(planned: Callable[..., Plan]) -> Callable[..., Audit]:
    return lambda **changes: audit_benchmark(planned(**changes))


def facts(findings: Audit, dataset: str) -> Any:
    return findings.datasets.set_index("dataset").loc[dataset].to_dict()


def shared_rows(findings: Audit, level: str, dataset: str, other: str) -> int:
    return int(findings.matrix(level)[other][dataset])


def test_a_dataset_is_described(audited) -> None:
    found = facts(audited(), "Toy")
    assert (found["rows"], found["formulas"], found["twins"], found["unusable"]) == (48, 48, 0, 0)
    assert found["elements"] == 4 + 12
    assert found["max"] == pytest.approx(200.5)
    assert found["min"] == pytest.approx(200 * np.exp(-0.8 * 3 - 0.3 * 11) + 0.5)


def test_polymorph_twins_are_rows_that_share_a_formula(audited) -> None:
    found = facts(audited(train_on=["ToyAndTwins"]), "ToyAndTwins")
    assert (found["rows"], found["formulas"], found["twins"]) == (96, 48, 96)


def test_unusable_rows_are_counted(audited) -> None:
    found = facts(audited(train_on=["Gappy"]), "Gappy")
    assert (found["rows"], found["unusable"]) == (48, 2)


def test_sources_and_parts_are_audited_too(audited) -> None:
    findings = audited(train_on=["ToyAndTwins"], test_on=["Toy"], transfers=[TWO_STAGE])
    assert list(findings.datasets["dataset"]) == ["ToyAndTwins", "Toy", "Source", "Twins"]


def test_polymorphs_share_formulas_but_neither_ids_nor_structures(audited) -> None:
    findings = audited(test_on=["Toy", "Twins"])
    levels = {level: shared_rows(findings, level, "Toy", "Twins") for level in LEVELS}
    assert levels == {"id": 0, "formula": 48, "structure": 0, "near structure": 0}


def test_the_same_crystal_is_known_however_it_is_written(audited) -> None:
    findings = audited(test_on=["Toy", "Rewritten"])
    levels = {level: shared_rows(findings, level, "Toy", "Rewritten") for level in LEVELS}
    assert levels == {"id": 0, "formula": 48, "structure": 48, "near structure": 48}


def test_a_supercell_with_an_atom_replaced_is_near_what_it_was_made_of(audited) -> None:
    findings = audited(test_on=["Toy", "Supercells", "Twins"])
    for one, other in (("Toy", "Supercells"), ("Supercells", "Toy")):
        levels = {level: shared_rows(findings, level, one, other) for level in LEVELS}
        assert levels == {"id": 0, "formula": 0, "structure": 0, "near structure": 48}
    assert shared_rows(findings, "near structure", "Supercells", "Twins") == 0, "other sites"
    assert shared_rows(findings, "near structure", "Supercells", "Supercells") == 0


def test_a_share_is_of_the_rows_of_the_first(audited) -> None:
    findings = audited(test_on=["Toy", "Source"])
    for level in LEVELS:
        shares = findings.matrix(level, "share")
        assert shared_rows(findings, level, "Toy", "Source") == 48
        assert shares.loc["Toy", "Source"] == 1.0
        assert shared_rows(findings, level, "Source", "Toy") == 48
        assert shares.loc["Source", "Toy"] == pytest.approx(48 / 192)


def test_no_row_is_its_own_counterpart(audited) -> None:
    findings = audited(train_on=["ToyAndTwins"], test_on=["ToyAndTwins", "Toy"])
    for dataset, formula in {"Toy": 0, "ToyAndTwins": 96}.items():
        assert shared_rows(findings, "id", dataset, dataset) == 0
        assert shared_rows(findings, "formula", dataset, dataset) == formula
        assert shared_rows(findings, "structure", dataset, dataset) == 0


def test_parts_lie_wholly_in_their_composite_without_the_matcher(
    audited, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pymatgen.analysis.structure_matcher import StructureMatcher

    compared = []
    fit = StructureMatcher.fit

    def counted(self: StructureMatcher, one: Any, other: Any) -> bool:
        compared.append((one, other))
        return fit(self, one, other)

    monkeypatch.setattr(StructureMatcher, "fit", counted)
    findings = audited(train_on=["ToyAndTwins"], test_on=["Toy", "Twins"])
    for level in LEVELS:
        assert shared_rows(findings, level, "Toy", "ToyAndTwins") == 48
        # by formula, Toy's rows have their polymorphs among Twins as well
        in_twins = 96 if level == "formula" else 48
        assert shared_rows(findings, level, "ToyAndTwins", "Twins") == in_twins
    assert len(compared) == 2 * 48, "each pair of polymorphs once a level, nothing with itself"


def test_overlaps_do_not_depend_on_the_order_of_datasets(audited) -> None:
    names = ["Rewritten", "Toy", "Twins"]
    one = audited(test_on=names).matrix("structure").loc[names, names]
    other = audited(test_on=names[::-1]).matrix("structure").loc[names, names]
    pd.testing.assert_frame_equal(one, other)


def test_weights_are_shown_with_what_they_have_seen(audited) -> None:
    transfers = ["scratch", "pretrained", {"name": "two-stage", "source": "Source"}]
    findings = audited(backbones=["learned", "secretive"], transfers=transfers)
    rows = findings.weights.to_dict("records")
    assert [tuple(row.values()) for row in rows] == [
        ("learned", "pretrained", "Toy", "tiny-weights", "every rocksalt"),
        ("learned", "two-stage(source=Source)", "Toy", "tiny-weights", "every rocksalt"),
        ("secretive", "pretrained", "Toy", "found-somewhere", "not declared"),
        ("secretive", "two-stage(source=Source)", "Toy", "found-somewhere", "not declared"),
    ]


def test_no_weights_leave_an_empty_frame(audited) -> None:
    assert audited().weights.empty


def test_cells_count_the_rows_that_the_overlap_free_rule_leaves(planned) -> None:
    laid_out = planned(test_on=["Toy", "Twins"], runs=3)
    cells = audit_benchmark(laid_out).cells.set_index("test_on")
    (stage,) = laid_out.stages
    free = []
    for scoring in laid_out.scorings:
        if scoring.cell.test_on != "Twins":
            continue
        for member, rows in zip(stage.members, scoring.rows, strict=True):
            trained = {stage.dataset.formulas[row] for row in member.train}
            free.append(sum(scoring.dataset.formulas[row] not in trained for row in rows))
    twins = cells.loc["Twins"]
    assert twins["n_all"] == pytest.approx(10, abs=1), "20 % of 48"
    assert twins["n_overlap_free"] == np.mean(free)
    assert twins["fewest"] == min(free)
    assert twins["lost"] == pytest.approx(1 - np.mean(free) / twins["n_all"])
    assert 0 < twins["lost"] < 1
    assert cells.loc["Toy", "lost"] == 0, "strict splits share no group with their training rows"


def test_what_is_written_can_be_read_again(audited, tmp_path: Path) -> None:
    findings = audited(test_on=["Toy", "Source"])
    folder = tmp_path / "deep" / "audit"
    paths = findings.write(folder)
    assert sorted(paths) == sorted(folder.iterdir())
    for name in ("datasets", "overlap", "cells"):
        again = pd.read_csv(folder / f"audit_{name}.csv")
        pd.testing.assert_frame_equal(again, getattr(findings, name), rtol=1e-5, check_dtype=False)


def test_the_picture_is_the_same_each_time_and_holds_the_numbers(audited, tmp_path: Path) -> None:
    findings = audited(test_on=["Toy", "Source"])
    pictures = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        findings.write(folder)
        pictures.append(
            [(folder / f"audit_overlap.{kind}").read_bytes() for kind in ("png", "svg")]
        )
    assert pictures[0] == pictures[1]
    svg = pictures[0][1].decode()
    for text in ("Toy", "Source", "25 %", "whose formula occurs in"):
        assert text in svg


def test_pyplot_is_left_alone(audited, tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    audited().write(tmp_path)
    assert dict(matplotlib.rcParams) == before


def test_a_folder_that_cannot_be_written_is_named(audited, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"Cannot write the audit to .*file.*--to"):
        audited().write(tmp_path / "file" / "audit")


@pytest.mark.slow
def test_the_published_datasets(planned, shared: Path) -> None:
    names = ["Dataset1", "Dataset2", "MIX", "AFLOW"]
    locations = Locations(data=(shared / "data",))
    findings = audit_benchmark(
        planned(locations, train_on=names, test_on=names, protocols=["published"])
    )
    found = findings.datasets.set_index("dataset")[["rows", "formulas", "twins", "unusable"]]
    assert found.loc["Dataset1"].tolist() == [95, 69, 52, 0]
    assert found.loc["Dataset2"].tolist() == [143, 141, 4, 0]
    assert found.loc["MIX"].tolist() == [238, 210, 56, 0]
    assert found.loc["AFLOW"].tolist() == [3318, 3318, 0, 0]
    # the mirror holds each formula of AFLOW once at most, and none of those of Dataset1
    by_formula, by_structure = findings.matrix("formula"), findings.matrix("structure")
    assert by_formula["AFLOW"].tolist() == [0, 7, 7, 0]
    assert by_structure["AFLOW"].tolist() == [0, 1, 1, 0]
    assert findings.matrix("near structure")["AFLOW"].tolist()[:3] == [0, 1, 1]
    assert by_structure.loc["Dataset1", "Dataset1"] == 0, "its twins are polymorphs, not copies"
    cells = findings.cells.set_index(["train_on", "test_on"])
    assert cells.loc[("Dataset1", "Dataset1"), "lost"] > 0.3, "twins across the published split"
