"""`concat`: several fixed backbones as one, each encoding once for all that use it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness import api
from harness.apps.predict import predicting
from harness.apps.predict.bundle import load_bundle
from harness.check.audit import audit_benchmark
from harness.errors import BenchmarkError, PluginError
from harness.planning.benchmark import Benchmark
from harness.plugin import SYMBOLS, BackboneSpec, Crystal, FixedFeatures, Locations
from harness.registry.registry import Registry
from harness.testing import BackboneCases
from harness_concat.backbone import Concat

FROZEN = Path(__file__).resolve().parents[1] / "plugins" / "frozen.py"
SHY = {"name": "shy", "release": 2}
BOTH = {"name": "concat", "of": ["trained", SHY]}
LABEL = "concat(of=trained-shy(release=2))"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Formulas that the backbones were asked for."""
    monkeypatch.setenv("FROZEN_NOTES", str(tmp_path / "notes"))
    (tmp_path / "notes").touch()
    return lambda: (tmp_path / "notes").read_text().split()


def benchmark(*backbones: Any, **changes: Any) -> Benchmark:
    settings = {
        "name": "concat",
        "train_on": ["Toy"],
        "test_on": ["Toy"],
        "backbones": backbones,
        "heads": ["ridge"],
        "baselines": [],
        "metrics": ["mae-log"],
        "runs": 2,
        **changes,
    }
    return Benchmark.model_validate(settings)


@pytest.fixture
def prepare(tiny: Path) -> Callable[..., Any]:
    def lay_out(*backbones: Any, plugins: Sequence[Path] = (FROZEN,), **changes: Any) -> Any:
        return api.prepare(benchmark(*backbones, **changes), registry=Registry([tiny, *plugins]))

    return lay_out


def concat(*parts: Any) -> dict[str, Any]:
    return {"name": "concat", "of": list(parts)}


# --- in a benchmark ---------------------------------------------------------------------------


def test_a_row_is_called_by_its_parts_with_their_settings(prepare: Any) -> None:
    (scoring,) = prepare(BOTH).scorings
    assert (scoring.cell.backbone, scoring.cell.transfer) == (LABEL, "fixed")


def test_parts_that_were_encoded_alone_are_not_encoded_again(prepare: Any, notes: Any) -> None:
    prepare("trained", SHY)
    alone = len(notes())
    prepare(BOTH, concat("plain", concat(SHY, "trained")), "plain")
    assert alone == 48 + 47
    assert len(notes()) == alone + 47  # `plain`, once, of the rows that are left


def test_a_part_encoded_for_it_is_not_encoded_again_alone(prepare: Any, notes: Any) -> None:
    prepare(BOTH)
    together = len(notes())
    prepare("trained", SHY)
    assert len(notes()) == together


def test_a_row_that_a_part_refuses_is_left_out_with_its_reason(prepare: Any) -> None:
    planned = prepare(BOTH)
    (problem,) = planned.loader["Toy"].problems
    assert problem.reason == "shy cannot encode it: too salty"


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["trained", "tiny"], "'concat' is made of fixed ones, and 'tiny' is trained"),
        (["trained"], "of: expected two or more"),
        (["trained", "train"], "Did you mean 'trained'"),
        (["trained", {"name": "shy", "release": "x"}], "backbone 'shy': release: expected"),
        (["trained", {"name": "shy", "relaese": 2}], "unknown key 'relaese'"),
        (["shy", {"name": "shy"}], "'?shy'? stands there twice"),
        (["trained", 3], "expected a name"),
    ],
)
def test_what_it_cannot_be_made_of_is_refused(prepare: Any, parts: Any, message: str) -> None:
    with pytest.raises((BenchmarkError, PluginError), match=message):
        prepare({"name": "concat", "of": parts})


def test_its_key_changes_with_a_part_its_settings_and_its_code(
    prepare: Any, tmp_path: Path
) -> None:
    other = tmp_path / "frozen.py"
    other.write_text(FROZEN.read_text() + "# a comment")
    keys = [
        prepare(one, plugins=[file]).stages[0].key
        for one, file in [
            (BOTH, FROZEN),
            (concat("trained", "shy"), FROZEN),
            (concat("plain", "trained"), FROZEN),
            (concat("trained", "plain"), FROZEN),
            (concat("trained", "plain"), other),
        ]
    ]
    assert len(set(keys)) == len(keys)


def test_a_default_written_out_is_the_same_stage(prepare: Any) -> None:
    short, long = concat("trained", "shy"), concat("trained", {"name": "shy", "release": 1})
    assert prepare(short).stages[0].key == prepare(long).stages[0].key


def test_the_audit_tells_what_the_weights_of_all_parts_have_seen(prepare: Any) -> None:
    (line,) = audit_benchmark(prepare(BOTH)).weights.to_dict("records")
    assert (line["weights"], line["seen"]) == ("table-2 + table-3", "Source + Twins")


def test_test_rows_that_any_of_them_has_seen_overlap(prepare: Any) -> None:
    (untrained, trained) = prepare("plain", BOTH).scorings
    assert not any(np.concatenate(untrained.overlap))
    assert all(np.concatenate(trained.overlap))  # Source has all formulas of Toy


@pytest.mark.parametrize(
    "head", ["ridge", {"name": "gp", "length_scales": "blocks"}, {"name": "mlp", "hidden": [4]}]
)
def test_heads_of_either_sort_are_fitted_verified_exported_and_asked(
    tmp_path: Path, tiny: Path, head: Any, notes: Any
) -> None:
    out, plugins = tmp_path / "out", [tiny, FROZEN]
    asked = benchmark(BOTH, heads=[head], training={"epochs": 2, "loss": "mae-log"})
    leaderboard = api.run(asked, out=out, plugins=plugins)
    assert not leaderboard.failed
    assert leaderboard.pretraining == {("table-2 + table-3", "Source + Twins"): ("fixed",)}
    assert not api.verify(out, plugins=plugins, deep=True).differences
    predicting.export(out, f"backbone={LABEL}", tmp_path / "bundle", plugins=plugins)
    before = len(notes())
    found = predicting.scan("Toy", tmp_path / "bundle", tmp_path / "s.parquet", plugins=plugins)
    assert found.failed == 1  # the salt
    assert len(notes()) == before  # what was trained is in the cache


def test_a_bundle_of_other_code_of_a_part_is_refused(tmp_path: Path, tiny: Path) -> None:
    plugin = tmp_path / "frozen.py"
    plugin.write_text(FROZEN.read_text())
    api.run(benchmark(BOTH), out=tmp_path / "out", plugins=[tiny, plugin])
    predicting.export(tmp_path / "out", "train_on=Toy", tmp_path / "bundle", plugins=[tiny, plugin])
    plugin.write_text(FROZEN.read_text() + "# another")
    with pytest.raises(PluginError, match="its code here is another one"):
        load_bundle(tmp_path / "bundle", plugins=[plugin])


# --- the backbone -----------------------------------------------------------------------------


def features(*numbers: float, elements: Sequence[str] = SYMBOLS, **options: Any) -> FixedFeatures:
    return FixedFeatures(
        lambda _: numbers, len(numbers), elements=elements, encoding=f"{numbers}", **options
    )


def embed(backbone: Concat, crystal: Crystal) -> list[float]:
    cpu = torch.device("cpu")
    pool = backbone.pool([backbone.encode(crystal)], cpu)
    embedding = backbone.build([torch.Generator()])(pool.batch(np.array([[0]])))
    found: list[float] = embedding[0, 0].tolist()
    return found


def silicon() -> Crystal:
    return Crystal(np.eye(3) * 3, ("Si",), np.zeros((1, 3)))


NUMBERS = st.lists(st.integers(-10, 10), min_size=1, max_size=4)


@given(parts=st.lists(NUMBERS, min_size=2, max_size=4))
def test_its_embedding_is_theirs_end_to_end_in_blocks(parts: list[list[float]]) -> None:
    backbone = Concat({str(number): features(*own) for number, own in enumerate(parts)})
    assert embed(backbone, silicon()) == [number for own in parts for number in own]
    assert backbone.blocks == tuple((str(n), len(own)) for n, own in enumerate(parts))
    assert sum(width for _, width in backbone.blocks) == backbone.width


def test_nested_ones_keep_their_blocks() -> None:
    inner = Concat({"a": features(1.0), "b": features(2.0, 3.0)})
    outer = Concat({"c": features(4.0), "in": inner})
    assert outer.blocks == (("c", 1), ("in/a", 1), ("in/b", 2))
    assert embed(outer, silicon()) == [4.0, 1.0, 2.0, 3.0]


def test_it_knows_what_all_know_and_sees_as_far_as_any() -> None:
    both = Concat(
        {
            "a": features(1.0, elements=["Si", "C"], cutoff_angstrom=5.0, refuses=False),
            "b": features(2.0, elements=["Si", "O"], invariances=["motion"], refuses=False),
        }
    )
    assert both.elements == {"Si"}
    assert both.invariances == {"motion"}
    assert both.cutoff_angstrom == 5.0
    assert not both.refuses and not both.offers_weights


def test_weights_of_two_parts_that_are_the_same_are_told_once() -> None:
    registry = Registry([FROZEN])
    trained = registry.backbones["trained"]
    parts = {name: trained.make(trained.settings()) for name in ("a", "b")}
    assert Concat(parts).find_pretrained(Locations()).name == "table-2"


class TestPromises(BackboneCases):
    @pytest.fixture
    def spec(self) -> BackboneSpec:
        registry = Registry([FROZEN])
        plain, trained = registry.backbones["plain"], registry.backbones["trained"]
        return BackboneSpec(
            "both",
            "two together",
            make=lambda settings: Concat(
                {own.name: own.make(own.settings()) for own in (plain, trained)}
            ),
        )
