"""The plan: equal stages are one, every outcome is in the key, and no group is on two sides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.benchmark import Benchmark
from harness.errors import BenchmarkError, DataError, PluginError
from harness.locations import Locations
from harness.plan import Plan
from harness.planner import plan
from harness.registry import Registry


@pytest.fixture
def planned(tiny: Path):
    registry = Registry([tiny])

    def make(limit: int | None = None, **changes: Any) -> Plan:
        settings = {
            "name": "test",
            "train_on": ["Toy"],
            "test_on": ["Toy"],
            "backbones": ["tiny"],
            "baselines": [],
            "runs": 2,
            **changes,
        }
        return plan(Benchmark.model_validate(settings), registry, Locations(), limit=limit)

    return make


TWO_STAGE = {"name": "two-stage", "source": "Source", "source_start": "random"}


def test_equal_stages_are_planned_once(planned) -> None:
    laid_out = planned(
        train_on=["Source", "Toy"], transfers=["scratch", TWO_STAGE], protocols=["published"]
    )
    titles = [stage.title for stage in laid_out.stages]
    assert titles == ["Source (random)", "Toy (random)", "Toy (after Source)"]
    assert len(laid_out.scorings) == 3
    assert laid_out.not_applicable == (("two-stage(source=Source, source_start=random)", "Source"),)


def test_stages_come_after_their_parents(planned) -> None:
    laid_out = planned(train_on=["Toy", "Twins"], transfers=[TWO_STAGE])
    keys = [stage.key for stage in laid_out.stages]
    for stage in laid_out.stages:
        assert stage.parent is None or keys.index(stage.parent.key) < keys.index(stage.key)


@pytest.mark.parametrize(
    "change",
    [
        {"training": {"epochs": 4}},
        {"training_on": {"Toy": {"lr": 0.01}}},
        {"seed": 1},
        {"runs": 3},
        {"heads": [{"name": "mlp", "hidden": [5]}]},
        {"backbones": [{"name": "tiny", "width": 4}]},
        {"protocols": ["published"]},
        {"limit": 20},
    ],
)
def test_whatever_changes_the_outcome_changes_the_key(planned, change: dict[str, Any]) -> None:
    (before,), (after,) = planned().stages, planned(**change).stages
    assert before.key != after.key


def test_what_does_not_change_the_outcome_does_not_change_the_key(planned) -> None:
    (before,) = planned().stages
    other = planned(name="other", metrics=["mape"], test_on=["Twins"], train_on=["Twins", "Toy"])
    assert before.key in {stage.key for stage in other.stages}


def test_adding_a_run_changes_no_other_run(planned) -> None:
    few, many = planned(runs=2).stages[0].members, planned(runs=4).stages[0].members
    for one, other in zip(few, many, strict=False):
        assert one.init_seed == other.init_seed
        assert np.array_equal(one.train, other.train)


def test_strict_keeps_every_group_on_one_side_of_the_whole_chain(planned) -> None:
    laid_out = planned(
        train_on=["Toy", "ToyAndTwins"], test_on=["Toy", "Twins"], transfers=[TWO_STAGE], runs=3
    )
    for scoring in laid_out.scorings:
        if scoring.cell.test_on != "Toy":
            continue
        for member, rows in enumerate(scoring.rows):
            tested = {scoring.dataset.formulas[row] for row in rows}
            for stage in scoring.stage.chain:
                used = stage.members[member]
                seen = [*used.train, *used.validation]
                assert not tested & {stage.dataset.formulas[row] for row in seen}


def test_a_composite_follows_the_splits_of_its_parts(planned) -> None:
    laid_out = planned(train_on=["ToyAndTwins"], test_on=["ToyAndTwins", "Toy", "Twins"])
    by_name = {scoring.cell.test_on: scoring for scoring in laid_out.scorings}
    whole = by_name["ToyAndTwins"]
    for run in range(2):
        expected = [
            (part, by_name[part].dataset.ids[row])
            for part in ("Toy", "Twins")
            for row in by_name[part].rows[run]
        ]
        rows = whole.rows[run]
        assert [(whole.dataset.parts[r], whole.dataset.ids[r]) for r in rows] == expected


def test_overlap_with_training_groups_is_marked_row_by_row(planned) -> None:
    (scoring,) = planned(train_on=["Toy"], test_on=["Twins"]).scorings
    trained = scoring.stage.trained_groups(0)
    expected = [scoring.dataset.formulas[row] in trained for row in scoring.rows[0]]
    assert scoring.overlap[0].tolist() == expected
    assert any(expected)


def test_published_two_stage_decodes_with_the_first_scaler(planned) -> None:
    laid_out = planned(transfers=[TWO_STAGE], protocols=["published"])
    first, second = laid_out.scorings[0].stage.chain
    assert second.members[0].scaler == first.members[0].scaler


def test_label_view_changes_labels_only_where_scalers_differ(planned) -> None:
    views = ["published", {"name": "published", "label_view": "as-published"}]
    laid_out = planned(test_on=["Toy", "Twins"], protocols=views)
    assert len(laid_out.stages) == 1, "training on one's own dataset is the same in both views"
    labels = {(s.cell.test_on, s.cell.protocol): s.labels[0] for s in laid_out.scorings}
    true, distorted = "published [true]", "published [as-published]"
    assert np.array_equal(labels["Toy", true], labels["Toy", distorted])
    assert not np.allclose(labels["Twins", true], labels["Twins", distorted])


def test_a_dataset_too_small_to_split_is_named(planned) -> None:
    with pytest.raises(DataError, match=r"'Two' cannot be split.*2"):
        planned(train_on=["Two"], test_on=["Two"])


def test_a_source_with_nothing_left_is_named(planned) -> None:
    """Twins has Toy's materials: what is not reserved for Toy is too little to train on."""
    with pytest.raises(DataError, match=r"No \w+ rows are left for 'Twins' in run 1"):
        planned(transfers=[{**TWO_STAGE, "source": "Twins"}], limit=6)


def test_a_dataset_without_usable_rows_is_named(planned) -> None:
    with pytest.raises(DataError, match=r"'Nothing' has no usable row[^$]*no kappa"):
        planned(train_on=["Nothing"])


def test_two_entries_that_make_one_cell_are_refused(planned) -> None:
    with pytest.raises(BenchmarkError, match=r"make the same cell: .*train_on 'Toy'"):
        planned(train_on=["Toy", "Toy"])
    with pytest.raises(BenchmarkError, match="a name stands twice in mape, mape"):
        planned(metrics=["mape", "mape"])


def test_protocols_with_other_settings_are_other_cells(planned) -> None:
    laid_out = planned(protocols=["strict", {"name": "strict", "train": 0.5}])
    assert [s.cell.protocol for s in laid_out.scorings] == ["strict", "strict(train=0.5)"]


def test_settings_for_an_unknown_dataset_are_refused(planned) -> None:
    with pytest.raises(PluginError, match=r"Unknown dataset 'Sourc'. Did you mean 'Source'"):
        planned(training_on={"Sourc": {"epochs": 1}})


def test_overlap_counts_every_stage_of_the_chain(planned) -> None:
    """Under `published` a source keeps its groups; Toy's test rows are then all in Source."""
    laid_out = planned(transfers=["scratch", TWO_STAGE], protocols=["published"])
    alone, chained = laid_out.scorings
    assert not alone.overlap[0].any()
    assert chained.overlap[0].any()


def test_a_closed_form_head_takes_no_strategy_of_several_stages(planned) -> None:
    with pytest.raises(BenchmarkError, match=r"'mean-log' is fitted in closed form.*'scratch'"):
        planned(heads=["mean-log"], transfers=[TWO_STAGE])


def test_what_concerns_gradients_alone_does_not_change_a_closed_form_stage(planned) -> None:
    (before,) = planned(heads=["mean-log"]).stages
    (after,) = planned(heads=["mean-log"], training={"epochs": 7}).stages
    assert before.key == after.key
    assert before.seconds == 0.0
