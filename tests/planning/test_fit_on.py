"""`fit_on`: a head in closed form may learn from validation rows, and everything says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import api
from harness.apps.predict import predicting
from harness.apps.predict.bundle import load_bundle
from harness.errors import BenchmarkError, LeakError, PluginError
from harness.planning.benchmark import Benchmark
from harness.planning.ledger import check_plan, stage_ledger
from harness.plugin import HeadSpec, Settings
from harness.registry.registry import Registry

BOTH = {"name": "ridge", "fit_on": "train+validation"}
COMPOSITION = {"backbones": ["composition"], "heads": ["ridge", BOTH]}


def benchmark(**changes: Any) -> Benchmark:
    settings = {
        "name": "fit-on",
        "train_on": ["Toy"],
        "test_on": ["Toy", "Twins"],
        **COMPOSITION,
        "baselines": [],
        "metrics": ["mae-log"],
        "runs": 2,
        **changes,
    }
    return Benchmark.model_validate(settings)


@pytest.fixture
def prepare(tiny: Path) -> Callable[..., Any]:
    return lambda **changes: api.prepare(benchmark(**changes), registry=Registry([tiny]))


def test_validation_rows_are_training_rows_of_the_head_its_scaler_included(prepare: Any) -> None:
    alone, both = prepare().stages
    for one, other in zip(alone.members, both.members, strict=True):
        wanted = np.union1d(one.train, one.validation)
        assert len(one.validation) and not len(other.validation)
        assert np.array_equal(other.train, wanted)
        assert np.array_equal(other.scaler_rows, wanted)
        assert other.scaler != one.scaler


def test_of_a_composite_dataset_no_row_comes_back_that_was_in_the_way(prepare: Any) -> None:
    for scoring in prepare(train_on=["ToyAndTwins"], test_on=["Toy"]).scorings:
        for (source,), test in zip(scoring.sources, scoring.rows, strict=True):
            tested = {scoring.dataset.formulas[row] for row in test}
            assert tested.isdisjoint(scoring.target.formulas[row] for row in source.rows.train)


def test_the_ledger_says_what_the_rows_were_used_for(prepare: Any) -> None:
    _, both = prepare().stages
    ledger = stage_ledger(both)
    assert set(ledger["role"]) == {"gradient", "scaler"}
    assert (ledger["role"] == "gradient").sum() == sum(len(one.train) for one in both.members)


def test_it_stands_in_the_label_and_in_the_key(prepare: Any) -> None:
    planned = prepare(heads=["ridge", {"name": "ridge", "fit_on": "train"}, BOTH])
    labels = [scoring.cell.head for scoring in planned.scorings[::2]]
    assert labels == ["ridge", "ridge(fit_on=train)", "ridge(fit_on=train+validation)"]
    assert len(planned.stages) == 2  # the first two are one


def test_a_leak_through_validation_rows_is_found(prepare: Any) -> None:
    planned = prepare()
    (scoring,) = [s for s in planned.scorings if s.cell == planned.scorings[2].cell]
    stolen = scoring.sources[0][0].rows.train
    stolen[0] = scoring.rows[0][0]
    with pytest.raises(LeakError, match="the role 'gradient'"):
        check_plan(planned)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": [{**BOTH, "name": "mlp"}]}, "'mlp': fit_on .* is for heads in closed form"),
        ({"heads": [{**BOTH, "fit_on": "test"}]}, "expected 'train' or 'train\\+validation'"),
        ({"protocols": ["published"]}, "the validation rows of the protocol are test rows"),
        ({"tuning": {"trials": 2}}, "fitted on validation rows, by which the settings"),
    ],
)
def test_where_validation_rows_choose_something_it_is_refused(
    prepare: Any, changes: Any, message: str
) -> None:
    with pytest.raises(BenchmarkError, match=message):
        prepare(**changes)


def test_a_head_has_no_setting_of_that_name() -> None:
    class Odd(Settings):
        fit_on: str = "mine"

    with pytest.raises(PluginError, match="'odd' has a setting 'fit_on'"):
        HeadSpec("odd", "for tests", settings=Odd, fit="somewhere:fit_odd")


def test_baselines_may_too(prepare: Any) -> None:
    (stage,) = prepare(
        heads=["ridge"], baselines=[{"head": {"name": "nearest", "fit_on": "train+validation"}}]
    ).stages[:1]
    assert not any(len(member.validation) for member in stage.members)


def test_results_are_verified_audited_and_exported_without_calibration(
    tmp_path: Path, tiny: Path
) -> None:
    out = tmp_path / "out"
    api.run(benchmark(), out=out, plugins=[tiny])
    assert not api.verify(out, plugins=[tiny], deep=True).differences
    cell = "head=ridge(fit_on=train+validation)"
    predicting.export(out, cell, tmp_path / "bundle", plugins=[tiny])
    bundle = load_bundle(tmp_path / "bundle", plugins=[tiny])
    assert bundle.record.calibration_rows == 0
    scan = predicting.scan("Toy", tmp_path / "bundle", tmp_path / "s.parquet", plugins=[tiny])
    assert scan.failed == 0
