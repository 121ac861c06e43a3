"""Crystals are encoded by an executor where that pays, and its encodings are those made here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import api
from harness.data.dataset_loader import DatasetLoader
from harness.nn import encodings
from harness.nn.encodings import kept_encodings, load_encodings
from harness.plugin import ExecutorRequest, Locations
from harness.plugin.backbone import Backbone
from harness.registry.registry import Registry
from harness.remote.executor_session import ExecutorSession, session_of
from tests.conftest import TOY

PLUGINS = Path(__file__).resolve().parents[1] / "plugins"
FILES = [PLUGINS / "tiny.py", PLUGINS / "pool.py"]
POOL = ExecutorRequest("pool", workers=2)


@pytest.fixture(autouse=True)
def paying(monkeypatch):
    """Any work is worth to be sent away."""
    monkeypatch.setattr(encodings, "_seconds_to_be_worth_it", lambda backbone: 1e-9)


@pytest.fixture
def session() -> Iterator[ExecutorSession]:
    with session_of(POOL, Registry(FILES), (Backbone,)) as made:
        assert made is not None
        yield made


@pytest.fixture
def crystals(session):
    return DatasetLoader(session._registry, Locations.of())["Toy"].crystals  # noqa: SLF001


def backbone(session: ExecutorSession, **settings: Any) -> Backbone:
    spec = session._registry.backbones["tiny"]  # noqa: SLF001
    return spec.make(spec.settings(**settings))


def test_what_an_executor_encodes_is_what_is_encoded_here(session, crystals, tmp_path):
    tiny = backbone(session)
    there = load_encodings(tiny, crystals, tmp_path / "there", elsewhere=session)
    here = load_encodings(tiny, crystals, tmp_path / "here", workers=1)
    assert [{k: v.tolist() for k, v in own.items()} for own in there] == [
        {k: v.tolist() for k, v in own.items()} for own in here
    ]
    kept = kept_encodings(tiny, crystals, tmp_path / "there")
    assert None not in kept, "the cache of this process holds what came back"


def test_whatever_fails_there_is_met_here(session, crystals, tmp_path, monkeypatch):
    monkeypatch.setattr(encodings, "encode_on_worker", fail_on_worker)
    with pytest.warns(UserWarning, match="on the executor failed, going on in this process"):
        found = load_encodings(backbone(session), crystals, tmp_path, elsewhere=session)
    assert len(found) == len(crystals)


def fail_on_worker(*arguments: Any) -> None:
    raise ZeroDivisionError("not on this machine")


def test_a_run_encodes_on_its_executor_and_nothing_else_changes(tmp_path, monkeypatch):
    sent = []
    real = encodings._encode_elsewhere  # noqa: SLF001

    def count(*arguments: Any) -> Any:
        sent.append(len(arguments[1]))
        return real(*arguments)

    monkeypatch.setattr(encodings, "_encode_elsewhere", count)
    tables = []
    for name, executor in (("here", None), ("there", POOL)):
        monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / name / "cache"))
        source = tmp_path / name / "toy.toml"
        source.parent.mkdir()
        source.write_text(TOY)
        api.run(source, out=tmp_path / name / "results", plugins=FILES, executor=executor)
        tables.append((tmp_path / name / "results" / "table.csv").read_text())
    assert tables[0] == tables[1]
    assert sent == [16, 16], "all but the first crystals of two datasets"
