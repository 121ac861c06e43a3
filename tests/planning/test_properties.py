"""Properties in a plan: one table is of one, sources may be of others, and misfits are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import BenchmarkError, HarnessError, PluginError
from harness.planning.benchmark import Benchmark
from harness.planning.plan import Plan
from harness.planning.planner import plan
from harness.plugin.locations import Locations
from harness.registry.registry import Registry

FROM_ENERGIES = {"name": "two-stage", "source": "Energies", "source_start": "random"}


@pytest.fixture
def planned(tiny: Path):
    def make(dataset: str = "Toy", **changes: Any) -> Plan:
        settings = {
            "name": "test",
            "train_on": [dataset],
            "test_on": [dataset],
            "backbones": ["tiny"],
            "runs": 2,
            **changes,
        }
        return plan(Benchmark.model_validate(settings), Registry([tiny]), Locations())

    return make


def test_what_a_file_leaves_open_is_the_property_s(planned) -> None:
    of_kappa, of_energies = planned("Toy").benchmark, planned("ToyEnergies").benchmark
    assert of_kappa.metrics[0] == "mae-log"
    assert of_kappa.training.loss == "mape"
    assert [one.head.label for one in of_kappa.baselines] == [
        "best-constant(metric=mae-log)", "mean-log", "nearest",
    ]  # fmt: skip
    assert of_energies.metrics == ("mae", "rmse", "spearman", "r2")
    assert of_energies.training.loss == "mae"
    assert [one.head.label for one in of_energies.baselines] == [
        "best-constant(metric=mae)", "mean", "nearest",
    ]  # fmt: skip


def test_targets_on_a_linear_scale_are_neither_logged_nor_shifted(planned) -> None:
    stage = planned("ToyEnergies", baselines=[]).stages[0]
    member, targets = stage.members[0], stage.dataset.targets
    assert targets.min() < 0 < targets.max()
    assert member.scaler.offset is None
    assert member.scaler.mean == pytest.approx(targets[member.scaler_rows].mean())
    assert member.scaler.decode(member.scaler.encode(targets)) == pytest.approx(targets)
    assert np.array_equal(member.labels, targets)


def test_one_table_is_of_one_property(planned) -> None:
    with pytest.raises(BenchmarkError, match=r"Toy of thermal-conductivity, Energies of formation"):
        planned(test_on=["Toy", "Energies"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metrics": ["mae-log"]}, r"'mae-log' needs a property on a logarithmic scale.*: .*rmse"),
        ({"metrics": ["mape"]}, r"'mape' needs positive values.*Those that do: "),
        ({"training": {"loss": "mape"}}, r"The loss 'mape' needs positive values.*mae, mse, huber"),
        ({"training": {"loss": "mae-log"}}, r"The loss 'mae-log' needs .*'ToyEnergies'"),
        ({"protocols": ["published"]}, r"The protocol 'published.*' chooses epochs by 'mape'"),
        ({"baselines": [{"head": "mean-log"}]}, r"The head 'mean-log' needs .*formation energy"),
    ],
)
def test_what_makes_no_sense_for_a_property_is_refused(
    planned, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(BenchmarkError, match=said):
        planned("ToyEnergies", **changes)


def test_an_unknown_property_is_refused_with_those_that_are_known(tmp_path: Path, planned) -> None:
    plugin = tmp_path / "gaps.py"
    plugin.write_text(
        "from harness.plugin import Card, DatasetSpec, hookimpl\n"
        "@hookimpl\n"
        "def register_datasets():\n"
        "    card = Card(title='t', property='band-gaps', unit='eV')\n"
        "    return [DatasetSpec('Gaps', card, lambda where: [])]\n"
    )
    benchmark = Benchmark(name="t", train_on=("Gaps",), test_on=("Gaps",))
    with pytest.raises(PluginError, match=r"Unknown property 'band-gaps'.*band-gap"):
        plan(benchmark, Registry([plugin]), Locations())


def test_a_source_of_another_property_has_its_own_loss_scaler_and_selection(planned) -> None:
    source, target = planned(transfers=[FROM_ENERGIES], baselines=[]).stages
    assert (source.dataset.name, target.dataset.name) == ("Energies", "Toy")
    assert (source.member_trainings[0].training.loss, source.selection.name) == ("mae", "mae")
    assert (target.member_trainings[0].training.loss, target.selection.name) == ("mape", "mae-log")
    assert source.members[0].scaler.offset is None
    assert target.members[0].scaler.offset == 0.0


def test_the_head_goes_on_only_where_the_property_is_the_same(planned) -> None:
    chain = {"name": "two-stage", "sources": ["Energies", "Source"], "source_start": "random"}
    energies, source, target = planned(transfers=[chain], baselines=[]).stages
    assert not energies.keeps_head
    assert not source.keeps_head
    assert target.keeps_head


def test_the_first_scaler_decodes_only_its_own_property(planned) -> None:
    settings = {"transfers": [FROM_ENERGIES], "protocols": ["published"], "baselines": []}
    _, target = planned(**settings).stages
    assert target.members[0].scaler.offset == 1.0
    assert len(target.members[0].scaler_rows)


def test_several_sources_at_once_have_each_their_loss(planned) -> None:
    joint = {"name": "joint", "sources": ["Energies", "Source"], "start": "random"}
    (stage,) = planned(transfers=[joint], baselines=[]).stages
    training = stage.member_trainings[0]
    assert [training.loss_of(number) for number in range(3)] == ["mape", "mae", "mape"]
    assert [other.members[0].scaler.offset for other in stage.alongside] == [None, 0.0]


def test_a_source_leaves_out_test_formulas_whatever_its_property(planned) -> None:
    scoring = planned(transfers=[FROM_ENERGIES], baselines=[]).scorings[0]
    source = scoring.chain[0]
    tested = {scoring.dataset.formulas[row] for row in scoring.rows[0]}
    trained = {source.dataset.formulas[row] for row in source.members[0].train}
    assert tested.isdisjoint(trained)
    assert scoring.crystals_seen == ()


def test_a_source_of_another_property_may_keep_them_and_the_plan_says_so(planned) -> None:
    protocol = {"name": "strict", "keep_other_properties": True}
    settings = {"protocols": [protocol], "baselines": []}
    kept = planned(transfers=[FROM_ENERGIES], **settings).scorings[0]
    source = kept.chain[0]
    tested = {kept.dataset.formulas[row] for row in kept.rows[0]}
    assert not tested.isdisjoint(source.dataset.formulas[row] for row in source.members[0].train)
    assert kept.crystals_seen == ("formation-energy",)
    assert not any(overlap.any() for overlap in kept.overlap), "no label of a test row was seen"
    same = planned(transfers=[{**FROM_ENERGIES, "source": "Source"}], **settings).scorings[0]
    assert same.crystals_seen == ()


def test_a_dataset_is_another_one_where_its_property_is(planned) -> None:
    toy, energies = planned("Toy").loader, planned("ToyEnergies").loader
    whole = energies["ToyEnergies"]
    assert whole.digest != toy["Toy"].digest
    assert "formation_energy_per_atom" in whole.frame().columns


def test_a_part_of_another_property_is_refused(tmp_path: Path, tiny: Path) -> None:
    plugin = tmp_path / "mixed.py"
    plugin.write_text(
        "from harness.plugin import Card, DatasetSpec, hookimpl\n"
        "@hookimpl\n"
        "def register_datasets():\n"
        "    card = Card(title='t', unit='W/(m·K)')\n"
        "    return [DatasetSpec('Mixed', card, parts=('Toy', 'Energies'))]\n"
    )
    settings = {"name": "t", "train_on": ["Mixed"], "test_on": ["Mixed"], "backbones": ["tiny"]}
    benchmark = Benchmark.model_validate(settings)
    with pytest.raises(HarnessError, match=r"'Mixed'.*Energies of formation-energy"):
        plan(benchmark, Registry([tiny, plugin]), Locations())
