"""A fixed backbone is told as what it is: no transfer is crossed with it, its weights are named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import api
from harness.apps.predict import predicting
from harness.check.audit import audit_benchmark
from harness.errors import PluginError, WeightsError
from harness.planning.benchmark import Benchmark
from harness.plugin import SYMBOLS, CannotEncode, Crystal, FixedFeatures, Locations
from harness.registry.registry import Registry
from harness.testing import BackboneCases
from tests.conftest import ridge_benchmark

FROZEN = Path(__file__).resolve().parents[1] / "plugins" / "frozen.py"
CELL = {"protocol": "published", "train_on": "Toy", "test_on": "Toy"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))


def benchmark(backbones: Sequence[str], **changes: Any) -> Benchmark:
    return ridge_benchmark("frozen", backbones=list(backbones), **changes)


@pytest.fixture
def prepare(tiny: Path) -> Callable[..., Any]:
    def lay_out(*backbones: str, **changes: Any) -> Any:
        return api.prepare(benchmark(backbones, **changes), registry=Registry([tiny, FROZEN]))

    return lay_out


TWO_STAGE = {"name": "two-stage", "source": "Source", "source_start": "random"}


def test_it_stands_once_in_a_table_and_transfers_are_not_applicable(prepare: Any) -> None:
    settings = {"heads": [{"name": "mlp", "hidden": [4]}], "transfers": ["scratch", TWO_STAGE]}
    planned = prepare("plain", "tiny", **settings)
    chain = "two-stage(source=Source, source_start=random)"
    rows = [(s.cell.backbone, s.cell.transfer) for s in planned.scorings]
    assert rows == [("plain", "fixed"), ("tiny", "scratch"), ("tiny", chain)]
    model = "plain and mlp(hidden=4)"
    left_out = [(f"scratch with {model}", "Toy"), (f"{chain} with {model}", "Toy")]
    assert planned.not_applicable == tuple(left_out)


def test_a_strategy_that_no_other_backbone_can_carry_out_is_still_an_error(prepare: Any) -> None:
    with pytest.raises(WeightsError, match="'tiny' with the strategy 'pretrained'"):
        prepare("plain", "tiny", transfers=["pretrained"])


def test_backbones_that_are_trained_have_nothing_to_do_with_fixed(prepare: Any) -> None:
    planned = prepare("plain", "tiny", transfers=["scratch", "fixed"])
    rows = [(s.cell.backbone, s.cell.transfer) for s in planned.scorings]
    assert rows == [("plain", "fixed"), ("tiny", "scratch")]
    assert ("fixed", "Toy") in planned.not_applicable


def test_a_stage_says_that_it_is_fixed_and_by_what_weights(prepare: Any) -> None:
    plain, trained = prepare("plain", "trained").stages
    assert (plain.title, plain.weights) == ("Toy (fixed)", None)
    assert (trained.title, trained.weights.name) == ("Toy (fixed)", "table-2")
    assert plain.key != trained.key


def test_the_audit_says_what_its_weights_have_seen_as_a_baseline_too(prepare: Any) -> None:
    planned = prepare("trained", baselines=[{"backbone": "trained", "head": "nearest"}])
    found = audit_benchmark(planned).weights
    assert found[["transfer", "weights", "seen"]].to_numpy().tolist() == [
        ["baseline", "table-2", "Source"],
        ["fixed", "table-2", "Source"],
    ]


def test_test_rows_that_its_weights_have_seen_overlap(prepare: Any) -> None:
    (plain,), (trained,) = (prepare(name).scorings for name in ("plain", "trained"))
    assert not all(np.concatenate(plain.overlap))
    assert all(np.concatenate(trained.overlap))  # Source has all formulas of Toy


@pytest.mark.parametrize("head", ["ridge", {"name": "mlp", "hidden": [4]}])
def test_heads_of_either_sort_are_fitted_scored_verified_and_exported(
    tmp_path: Path, tiny: Path, head: Any
) -> None:
    out, plugins = tmp_path / "out", [tiny, FROZEN]
    asked = benchmark(["trained"], heads=[head], training={"epochs": 2, "loss": "mae-log"})
    leaderboard = api.run(asked, out=out, plugins=plugins)
    assert not leaderboard.failed
    assert leaderboard.pretraining == {("table-2", "Source"): ("fixed",)}
    assert not api.verify(out, plugins=plugins, deep=True).differences
    predicting.export(out, "transfer=fixed", tmp_path / "bundle", plugins=plugins)


def test_a_change_of_its_file_encodes_anew_unless_the_author_vouches(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FROZEN_NOTES", str(tmp_path / "notes"))
    file = tmp_path / "frozen.py"
    counts = []
    for comment in ("", "# a comment"):
        file.write_text(FROZEN.read_text() + comment)
        for backbone in ("plain", "trained"):
            (tmp_path / "notes").write_text("")
            api.prepare(benchmark([backbone]), registry=Registry([tiny, file]))
            counts.append(len((tmp_path / "notes").read_text().split()))
    assert counts == [48, 48, 48, 0]


def test_a_scan_encodes_what_was_trained_once_for_all_bundles(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins = [tiny, FROZEN]
    for head in ("ridge", "gp"):
        api.run(benchmark(["trained"], heads=[head]), out=tmp_path / head, plugins=plugins)
        bundle = tmp_path / f"bundle-{head}"
        predicting.export(tmp_path / head, "transfer=fixed", bundle, plugins=plugins)
    monkeypatch.setenv("FROZEN_NOTES", str(tmp_path / "notes"))
    (tmp_path / "notes").touch()
    for head in ("ridge", "gp"):
        table, bundle = tmp_path / f"{head}.parquet", tmp_path / f"bundle-{head}"
        assert predicting.scan("Twins", bundle, table, plugins=plugins).failed == 0
    formulas = (tmp_path / "notes").read_text().split()
    assert len(formulas) == len(set(formulas)) == 48


# --- the helper -------------------------------------------------------------------------------


def crystal() -> Crystal:
    return Crystal(np.eye(3) * 3, ("Si",), np.zeros((1, 3)))


def features(*numbers: float) -> FixedFeatures:
    return FixedFeatures(lambda _: numbers, 2, elements=SYMBOLS, encoding="given")


def test_numbers_become_single_precision() -> None:
    encoded = features(1.0, 2.5).encode(crystal())["features"]
    assert encoded.dtype == np.float32
    assert encoded.tolist() == [1.0, 2.5]


def test_numbers_that_are_not_finite_are_a_refusal() -> None:
    with pytest.raises(CannotEncode, match="1 of 2 features are not finite"):
        features(1.0, float("nan")).encode(crystal())


def test_another_number_of_features_is_the_authors_fault() -> None:
    with pytest.raises(PluginError, match=r"features of Si have the shape \(3,\): expected \(2,\)"):
        features(1.0, 2.0, 3.0).encode(crystal())


def test_without_weights_there_are_none_to_find() -> None:
    assert not features().offers_weights
    with pytest.raises(WeightsError):
        features().find_pretrained(Locations())


class TestPromises(BackboneCases):
    @pytest.fixture(params=["plain", "trained"])
    def spec(self, request: pytest.FixtureRequest) -> Any:
        return Registry([FROZEN]).backbones[request.param]
