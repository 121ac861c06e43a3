"""A crystal that a backbone cannot encode is a row problem: it is counted, and stops nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness import api
from harness.apps.predict import predicting
from harness.errors import DataError, FailedCellsWarning
from harness.planning.benchmark import Benchmark
from harness.planning.plan import Plan
from harness.plugin.events import EncodingProgressed
from harness.plugin.hookspecs import hookimpl
from harness.registry.registry import Registry

PICKY = Path(__file__).resolve().parents[1] / "plugins" / "picky.py"
SALTY = "picky cannot encode it: too salty"

Prepare = Callable[..., Plan]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Formulas that `picky` and its like were asked for, in order."""
    monkeypatch.setenv("PICKY_NOTES", str(tmp_path / "notes"))
    (tmp_path / "notes").touch()
    return lambda: (tmp_path / "notes").read_text().split()


def benchmark(backbones: Sequence[str], **changes: Any) -> Benchmark:
    settings = {
        "name": "picky",
        "train_on": ["Toy"],
        "test_on": ["Toy", "Twins"],
        "backbones": list(backbones),
        "heads": ["ridge"],
        "baselines": [],
        "metrics": ["mae-log"],
        "runs": 2,
        **changes,
    }
    return Benchmark.model_validate(settings)


@pytest.fixture
def prepare(tiny: Path) -> Prepare:
    def lay_out(*backbones: str, **changes: Any) -> Plan:
        return api.prepare(benchmark(backbones, **changes), registry=Registry([tiny, PICKY]))

    return lay_out


def test_its_rows_are_left_out_for_all_models_with_id_and_reason(prepare: Prepare) -> None:
    planned = prepare("tiny", "picky")
    toy = planned.loader["Toy"]
    assert [(p.id, p.reason) for p in toy.problems] == [("NaCl", SALTY), ("KBr", SALTY)]
    assert not {"NaCl", "KBr"} & set(toy.ids)
    assert {scoring.dataset.digest for scoring in planned.scorings} == {
        toy.digest,
        planned.loader["Twins"].digest,
    }


def test_they_are_left_out_of_composite_datasets_too(prepare: Prepare) -> None:
    planned = prepare("picky", train_on=["ToyAndTwins"], test_on=["Toy"])
    problems = planned.loader["ToyAndTwins"].problems
    assert [p.id for p in problems] == ["NaCl", "KBr", "other-NaCl", "other-KBr"]


def test_where_nothing_is_refused_keys_are_those_without_that_backbone(prepare: Prepare) -> None:
    without, beside = prepare("tiny", runs=1), prepare("tiny", "sure", runs=1)
    assert {s.key for s in without.stages} < {s.key for s in beside.stages}


def test_an_error_at_one_crystal_is_a_row_problem_with_its_first_line(prepare: Prepare) -> None:
    (problem,) = prepare("clumsy").loader["Toy"].problems
    assert problem.id == "NaCl"
    assert problem.reason == "clumsy failed: ArithmeticError: no sum over no neighbours"


@pytest.mark.parametrize(
    ("backbone", "reason"),
    [
        ("useless", "The row 'LiF' of the dataset 'Toy' (FLi): useless cannot encode it: no way."),
        ("lost", "FileNotFoundError: its table is not there"),
    ],
)
def test_a_backbone_that_can_encode_nothing_costs_its_own_cells_only(
    tmp_path: Path, tiny: Path, backbone: str, reason: str
) -> None:
    asked = benchmark(["tiny", backbone])
    with pytest.warns(FailedCellsWarning):
        leaderboard = api.run(asked, out=tmp_path / "out", plugins=[tiny, PICKY])
    assert not leaderboard.unusable
    assert len(leaderboard.failed) == len(leaderboard.cells) / 2
    assert any(reason in told for told in leaderboard.failed.values())


def test_what_refuses_though_it_says_it_does_not_names_dataset_and_id(
    tmp_path: Path, tiny: Path
) -> None:
    with pytest.warns(FailedCellsWarning, match="The row 'NaCl' of the dataset 'Toy'"):
        api.run(benchmark(["sure"]), out=tmp_path / "out", plugins=[tiny, PICKY])


def test_strict_data_refuses_them(tiny: Path) -> None:
    with pytest.raises(DataError, match=r"row 14 \(NaCl\): picky cannot encode it: too salty"):
        api.prepare(benchmark(["picky"]), registry=Registry([tiny, PICKY]), strict_data=True)


def test_they_are_counted_with_other_unusable_rows_and_the_table_verifies(
    tmp_path: Path, tiny: Path
) -> None:
    out = tmp_path / "out"
    leaderboard = api.run(benchmark(["tiny", "picky"]), out=out, plugins=[tiny, PICKY])
    assert leaderboard.unusable == {"Toy": 2, "Twins": 2}
    assert "plan.json: Toy 2, Twins 2." in (out / "table.md").read_text()
    found = api.verify(out, plugins=[tiny, PICKY])
    assert not found.differences


def test_every_crystal_is_tried_once(
    tmp_path: Path, tiny: Path, notes: Callable[[], list[str]]
) -> None:
    for _ in range(2):
        api.run(benchmark(["picky"]), out=tmp_path / "out", plugins=[tiny, PICKY])
    # Toy and Twins have other lattices, so every formula is two crystals
    assert len(notes()) == 2 * 48


def test_a_dry_run_tries_only_the_rows_that_it_keeps(
    tiny: Path, notes: Callable[[], list[str]]
) -> None:
    api.prepare(benchmark(["picky"]), registry=Registry([tiny, PICKY]), limit=10)
    assert len(notes()) == 20


def test_observers_hear_how_far_it_is(tmp_path: Path, tiny: Path) -> None:
    heard: list[EncodingProgressed] = []

    class Watch:
        @hookimpl
        def encoding_progressed(self, event: EncodingProgressed) -> None:
            heard.append(event)

    asked = benchmark(["picky"])
    api.run(asked, out=tmp_path / "out", plugins=[tiny, PICKY], observers=[Watch()])
    assert [(e.title, e.done, e.total) for e in heard] == [
        ("encoding Toy by picky", 48, 48),
        ("encoding Twins by picky", 48, 48),
    ]


def test_in_a_prediction_it_is_a_row_with_the_reason(tmp_path: Path, tiny: Path) -> None:
    api.run(benchmark(["picky"]), out=tmp_path / "out", plugins=[tiny, PICKY])
    bundle = tmp_path / "bundle"
    predicting.export(tmp_path / "out", "train_on=Toy", bundle, plugins=[tiny, PICKY])
    table = tmp_path / "scan.parquet"
    report = predicting.scan("Toy", bundle, table, plugins=[tiny, PICKY])
    assert report.reasons == {SALTY: 2}
    assert (report.rows, report.failed) == (48, 2)
