"""The plan: equal stages are one, every outcome is in the key, and no group is on two sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import BenchmarkError, DataError, PluginError, WeightsError
from harness.planning.benchmark import Benchmark
from harness.planning.plan import Plan, StageNode
from harness.planning.planner import plan
from harness.planning.training_settings import TrainingSettings
from harness.plugin.locations import Locations
from harness.registry.catalog import Catalog
from harness.registry.registry import Registry


@pytest.fixture
def planned(tiny: Path):
    def make(limit: int | None = None, plugins: Sequence[Path] = (), **changes: Any) -> Plan:
        registry = Registry([tiny, *plugins])
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


def test_a_model_may_be_carried_over_and_trained_in_its_own_way(planned) -> None:
    small = {
        "backbone": {"name": "tiny", "width": 4},
        "head": "mlp",
        "transfers": [TWO_STAGE],
        "training": {"epochs": 5},
        "training_on": {"Source": {"epochs": 2, "lr": 0.01}},
    }
    laid_out = planned(models=[small], training_on={"Toy": {"epochs": 4}})
    common, source, own = laid_out.stages
    assert (common.epochs, lr_of(common)) == (4, TrainingSettings().lr)
    assert (source.dataset.name, source.epochs, lr_of(source)) == ("Source", 2, 0.01)
    assert (own.dataset.name, own.epochs, own.parent) == ("Toy", 5, source)
    assert [one.transfer_label for one in laid_out.configurations if one.transfer] == [
        "scratch",
        "two-stage(source=Source, source_start=random)",
    ]
    assert planned(models=[small | {"training": {"epochs": 6}}]).stages[-1].key != own.key


def lr_of(stage: StageNode) -> float:
    return stage.member_trainings[0].training.lr


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
            for stage in scoring.chain:
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
    trained = scoring.sources[0][0].trained_groups()["thermal-conductivity"]
    expected = [scoring.dataset.formulas[row] in trained for row in scoring.rows[0]]
    assert scoring.overlap[0].tolist() == expected
    assert any(expected)


def test_published_two_stage_decodes_with_the_first_scaler(planned) -> None:
    laid_out = planned(transfers=[TWO_STAGE], protocols=["published"])
    first, second = laid_out.scorings[0].chain
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


# --- what strategies may ask of a stage -----------------------------------------------------------

FROM_SOURCE = {"source": "Source", "source_start": "random"}
JOINT = {"name": "joint", "source": "Source", "start": "random"}


def test_every_way_to_train_a_stage_is_in_its_key(planned) -> None:
    names = ("two-stage", "frozen", "gradual-unfreeze", "layerwise-lr", "l2-sp", "bitfit", "lora")
    transfers = [
        {"name": "two-stage", "new_head": True, **FROM_SOURCE},
        {"name": "lora", "rank": 2, **FROM_SOURCE},
        {"name": "lora", "alpha": 2.0, **FROM_SOURCE},
        {"name": "lora", "lr_factor": 2.0, **FROM_SOURCE},
        *({"name": name, **FROM_SOURCE} for name in names),
        {"name": "l2-sp", "strength": 0.5, **FROM_SOURCE},
        "scratch",
        JOINT,
        {**JOINT, "source_weight": 0.5},
    ]
    laid_out = planned(transfers=transfers)
    keys = [scoring.stages[0].key for scoring in laid_out.scorings]
    assert len(set(keys)) == len(transfers)
    assert [stage.title for stage in laid_out.stages].count("Source (random)") == 1


def test_a_new_head_has_a_scaler_of_its_own(planned) -> None:
    kept, new = (
        planned(
            transfers=[{"name": "two-stage", "new_head": new_head, **FROM_SOURCE}],
            protocols=["published"],
        ).stages[-1]
        for new_head in (False, True)
    )
    assert (kept.keeps_head, new.keeps_head) == (True, False)
    assert not len(kept.members[0].scaler_rows)
    assert len(new.members[0].scaler_rows)


def test_a_factor_scales_the_learning_rate_of_its_dataset(planned) -> None:
    source, target = planned(
        transfers=[{"name": "bitfit", "lr_factor": 3.0, **FROM_SOURCE}],
        training_on={"Toy": {"lr": 0.02}},
    ).stages
    assert target.dataset.name == "Toy"
    assert target.member_trainings[0].training.lr == pytest.approx(0.06)
    assert source.member_trainings[0].training.lr != pytest.approx(0.06)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prefixes": ["backbone.no_such_layer"]}, "matches no trainable weight of a linear"),
        ({"rank": 10_000}, "larger than every matrix"),
    ],
)
def test_adapters_that_cannot_be_are_refused_before_anything_is_trained(
    planned, settings, message
) -> None:
    with pytest.raises(BenchmarkError, match=message):
        planned(transfers=[{"name": "lora", **settings, **FROM_SOURCE}])


def test_adapters_make_no_sense_with_a_head_in_closed_form(planned) -> None:
    with pytest.raises(BenchmarkError, match="closed form"):
        planned(transfers=[{"name": "lora", **FROM_SOURCE}], heads=["mean-log"])


def test_datasets_fitted_alongside_leave_out_the_groups_of_test_and_validation_rows(
    planned,
) -> None:
    laid_out = planned(train_on=["Toy"], test_on=["Toy", "Twins"], transfers=[JOINT], runs=3)
    (stage,) = laid_out.stages
    (other,) = stage.alongside
    assert stage.title == "Toy with Source (random)"
    for member, rows in enumerate(other.members):
        used = {other.dataset.formulas[row] for row in [*rows.train, *rows.scaler_rows]}
        own = stage.members[member]
        held_out = {stage.dataset.formulas[row] for row in own.validation}
        for scoring in laid_out.scorings:
            held_out |= {scoring.dataset.formulas[row] for row in scoring.rows[member]}
        assert used
        assert not used & held_out
        assert len(rows.validation) == 0


def test_groups_of_datasets_fitted_alongside_count_as_trained_on(planned) -> None:
    laid_out = planned(transfers=["scratch", JOINT], protocols=["published"])
    alone, joint = laid_out.scorings
    assert not alone.overlap[0].any()
    assert joint.overlap[0].any()


def test_stages_on_the_target_itself_use_all_of_its_training_rows(planned, tmp_path: Path) -> None:
    """A strategy in two phases on one dataset does not lose rows as a source would."""
    path = tmp_path / "phases.py"
    path.write_text(
        "from harness import Settings, Stage, TransferSpec, hookimpl\n\n"
        "def stages(settings, target):\n"
        "    return [Stage(target.dataset, 'random', freeze=('backbone',)),\n"
        "            Stage(target.dataset, 'previous')]\n\n"
        "@hookimpl\n"
        "def register_transfers():\n"
        "    return [TransferSpec('phases', 'for tests', Settings, stages)]\n"
    )
    laid_out = planned(
        plugins=[path], transfers=["phases"], train_on=["Toy", "Twins"], test_on=["Toy", "Twins"]
    )
    for scoring in laid_out.scorings:
        first, second = scoring.chain
        for one, other in zip(first.members, second.members, strict=True):
            assert np.array_equal(one.train, other.train)


def test_a_strategy_is_left_out_for_a_model_that_cannot_carry_it_out(planned) -> None:
    laid_out = planned(heads=["mlp", "mean-log"], transfers=["scratch", TWO_STAGE])
    rows = [(s.cell.head, s.cell.transfer) for s in laid_out.scorings]
    label = "two-stage(source=Source, source_start=random)"
    assert rows == [("mlp", "scratch"), ("mlp", label), ("mean-log", "scratch")]
    assert laid_out.not_applicable == ((f"{label} with tiny and mean-log", "Toy"),)


def test_a_backbone_without_weights_leaves_out_strategies_that_start_from_them(planned) -> None:
    with pytest.raises(
        WeightsError, match=r"backbone '.*' with the strategy '.*TinyBackbone has no"
    ):
        planned(transfers=["scratch", "pretrained"])


def test_a_prefix_that_names_nothing_is_found_before_anything_is_trained(
    planned, tmp_path: Path
) -> None:
    path = tmp_path / "typo.py"
    path.write_text(
        "from harness import Settings, Stage, TransferSpec, hookimpl\n\n"
        "@hookimpl\n"
        "def register_transfers():\n"
        "    def stages(settings, target):\n"
        "        return [Stage(target.dataset, 'random', freeze=('bakbone',))]\n"
        "    return [TransferSpec('typo', 'for tests', Settings, stages)]\n"
    )
    with pytest.raises(BenchmarkError, match=r"'bakbone' matches no.*Did you mean 'backbone'"):
        planned(plugins=[path], transfers=["typo"])


# --- code ----------------------------------------------------------------------------------------

HEAD = """
from harness.plugin import HeadSpec, Settings, hookimpl

def fit(settings, rows):
    return lambda embeddings: embeddings[:, 0] * 0 + {answer}

@hookimpl
def register_heads():
    return [HeadSpec("mine", "for tests", Settings, fit=fit)]
"""


def test_other_code_of_a_plugin_is_another_stage(planned, tmp_path: Path) -> None:
    """Results of a model that was edited since are never shown as those of the one there now."""
    path = tmp_path / "mine.py"

    def key(answer: int) -> str:
        path.write_text(HEAD.format(answer=answer))
        return planned(plugins=[path], heads=["mine"]).stages[0].key

    assert key(1) != key(2)
    assert key(1) == key(1)


def test_the_same_code_elsewhere_is_the_same_stage(planned, tmp_path: Path) -> None:
    keys = set()
    for folder in ("here", "there"):
        path = tmp_path / folder / "mine.py"
        path.parent.mkdir()
        path.write_text(HEAD.format(answer=1))
        keys.add(planned(plugins=[path], heads=["mine"]).stages[0].key)
    assert len(keys) == 1


def test_built_in_plugins_have_the_version_of_the_harness_and_no_digest() -> None:
    registry = Registry()
    assert {registry.code_digest(name) for name in registry.built_in} == {""}


def test_a_thing_of_another_revision_is_another_stage(planned, monkeypatch) -> None:
    """The digest of a built-in plugin is empty: its author says when results change."""
    first = planned().stages[0]
    assert planned().stages[0].key == first.key
    for catalog, name in (("backbones", "tiny"), ("heads", "mlp"), ("metrics", "mae-log")):
        with monkeypatch.context() as patch:
            raise_revision(patch, catalog, name)
            found = planned().stages[0]
        assert found.key != first.key
        assert (found.model.backbone_code != first.model.backbone_code) == (catalog == "backbones")


def raise_revision(patch: pytest.MonkeyPatch, catalog: str, name: str) -> None:
    find = Catalog.__getitem__

    def found(self: Catalog[Any], wanted: str) -> Any:
        spec = find(self, wanted)
        raised = self.kind == catalog.removesuffix("s") and wanted == name
        return replace(spec, revision=2) if raised else spec

    patch.setattr(Catalog, "__getitem__", found)


def test_a_revision_of_1_says_nothing_and_another_one_does(monkeypatch) -> None:
    registry = Registry()
    assert registry.code_of(registry.heads, "mlp") == ""
    raise_revision(monkeypatch, "heads", "mlp")
    assert registry.code_of(registry.heads, "mlp") == "r2"
    assert registry.code_of(registry.heads, "linear") == ""


def test_a_composite_is_a_source_for_each_of_its_parts(planned) -> None:
    """What is reserved for all parts together leaves no row to choose the epoch by."""
    laid_out = planned(
        train_on=["Tetrahedral", "Rocksalt", "OtherPrototypes"],
        test_on=["Tetrahedral", "Rocksalt"],
        transfers=[{**TWO_STAGE, "source": "Experiment"}],
    )
    sources = [stage for stage in laid_out.stages if stage.parent is None]
    assert len(sources) == 3, "one for each target"
    for scoring in laid_out.scorings:
        for members, tested in zip(scoring.sources, scoring.rows, strict=True):
            test = {scoring.dataset.formulas[row] for row in tested}
            (member,) = members
            for stage in member.line:
                rows = np.concatenate([stage.rows.train, stage.rows.validation])
                assert not test & {stage.stage.dataset.formulas[row] for row in rows}


SPLITTER = """
import numpy as np
from harness.plugin import ProtocolRules, ProtocolSpec, Settings, Split, hookimpl

CALLS = []

class Rules(ProtocolRules):
    leak_free, selection, offset, scaler_stage = True, "mae-log", 0.0, "last"

    def split(self, formulas, run, seed):
        CALLS.append(1)
        rows = np.arange(len(formulas))
        train, validation, test = rows[6:], rows[:3], rows[3:6]
        {change}
        return Split(train, validation, test)

    def scaler_rows(self, split):
        return split.train

@hookimpl
def register_protocols():
    return [ProtocolSpec("odd", "", Settings, lambda settings: Rules())]
"""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("test = np.array([3, 4, 4])", r"names the row 4 twice among its test rows"),
        ("test = rows[3:6][: 1 + len(CALLS) % 2]", r"gave other rows when it was asked again"),
    ],
)
def test_splits_are_sets_of_rows_and_the_same_when_asked_again(
    change: str, told: str, planned, tmp_path: Path
) -> None:
    path = tmp_path / "odd.py"
    path.write_text(SPLITTER.replace("{change}", change))
    with pytest.raises(PluginError, match=told):
        planned(protocols=["odd"], plugins=[path])


def test_a_benchmark_without_a_cell_says_what_was_left_out(planned) -> None:
    with pytest.raises(BenchmarkError, match=r"no cells: .*two-stage.* on Toy"):
        planned(transfers=[{**TWO_STAGE, "source": "Toy"}])
