"""No secret reaches a plan, record, page, message, traceback or pack."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from harness import api, cli
from harness.apps.submissions import exchange
from harness.errors import BenchmarkError, HarnessError, StoreError
from harness.planning.benchmark import Benchmark
from harness.plugin.study import Tuning
from harness.redaction import holds_secret, redacted
from harness.report.submissions import facts_of

PASSWORD = "hunter2-secret"
URL = f"postgresql://me:{PASSWORD}@db.invalid/trials"
KEY = "0123456789abcdef0123456789abcdef"
BENCHMARK = f"""
train_on = ["Toy"]
test_on = ["Toy"]
backbones = ["tiny"]
heads = ["nearest"]
baselines = []
runs = 1
metrics = ["mae-log"]
summary = "trials in {URL}"

[tuning]
storage = "{URL}"
"""
CARD = """
name = "ada"
title = "A method"
authors = ["ada"]
summary = "{summary}"
licence = "CC0-1.0"
"""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (URL, "postgresql://me:***@db.invalid/trials"),
        (f"cannot open {URL!r} now", "cannot open 'postgresql://me:***@db.invalid/trials' now"),
        ("mysql+pymysql://me:p@ss:w@h/db", "mysql+pymysql://me:***@h/db"),
        ("postgresql://:abc@h/db", "postgresql://:***@h/db"),
        (
            "postgresql://h/db?user=me&password=abc&x=1",
            "postgresql://h/db?user=me&password=***&x=1",
        ),
        ("https://h/x?api_key=abc", "https://h/x?api_key=***"),
    ],
)
def test_passwords_in_urls_are_hidden(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert redacted(shown) == shown
    assert holds_secret(text)
    assert not holds_secret(shown)


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:///trials.db",
        "postgresql://me@host:5432/db",
        "see https://example.org:8080/a, or mail me@example.org",
        "env:TRIALS",
        "two-stage(source=AFLOW)",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize("variable", ["MP_API_KEY", "PMG_MAPI_KEY"])
def test_the_users_keys_are_hidden(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, KEY)
    assert redacted(f"the server said {KEY}") == "the server said ***"
    assert KEY not in str(HarnessError(f"refused: {KEY}"))


@pytest.mark.parametrize(
    "url", [URL, f"postgresql:/me:{PASSWORD}@db.invalid", f"me:{PASSWORD}@db.invalid"]
)
def test_what_is_no_url_is_not_shown_at_all(url: str) -> None:
    assert PASSWORD not in str(Tuning(storage=url).model_dump())


def test_text_of_others_is_looked_through_in_little_time() -> None:
    for text in ("a://b:" * 50_000, "a" * 500_000, "a://" + "b" * 500_000, "?token=" * 50_000):
        redacted(text)


def test_the_storage_may_lie_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    tuning = Tuning(storage="env:TRIALS")
    monkeypatch.setenv("TRIALS", URL)
    assert tuning.storage_url == URL
    assert PASSWORD not in tuning.model_dump_json()
    monkeypatch.delenv("TRIALS")
    with pytest.raises(BenchmarkError, match="environment variable 'TRIALS' is not set"):
        assert tuning.storage_url


def test_settings_are_shown_and_written_without_the_password() -> None:
    tuning = Tuning(storage=URL)
    assert tuning.storage_url == URL
    assert PASSWORD not in repr(tuning)
    assert PASSWORD not in json.dumps(tuning.model_dump(mode="json"))


def test_a_wrong_setting_does_not_print_it(tmp_path: Path) -> None:
    (tmp_path / "benchmark.toml").write_text(
        BENCHMARK.replace("storage =", "pruner = 3\nsampler =")
    )
    with pytest.raises(BenchmarkError) as caught:
        Benchmark.load(tmp_path, [f"tuning='{URL}'"])
    assert PASSWORD not in str(caught.value)


def test_a_database_that_cannot_be_opened_is_named_without_it(tiny: Path, tmp_path: Path) -> None:
    text = BENCHMARK.replace('"nearest"', '"mlp"')
    (tmp_path / "benchmark.toml").write_text(text)
    with pytest.raises(BenchmarkError, match="cannot be opened") as caught:
        api.tune(tmp_path, plugins=[tiny])
    assert PASSWORD not in str(caught.value)
    assert caught.value.__suppress_context__
    for path in tmp_path.rglob("*.json*"):
        assert PASSWORD not in path.read_text()


@pytest.mark.parametrize("bug", [ValueError, HarnessError])
def test_a_traceback_hides_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bug: type[Exception]
) -> None:
    def fail() -> None:
        try:
            raise ConnectionError(f"no answer from {URL}")
        except ConnectionError as problem:
            raise bug(f"cannot open {URL}") from problem

    def call(obj: Any) -> None:
        obj.traceback = True
        fail()

    monkeypatch.setattr(cli, "app", call)
    monkeypatch.setattr(sys, "argv", ["harness"])
    with pytest.raises(SystemExit):
        cli.main()
    printed = capsys.readouterr().err
    assert "postgresql://me:***@db.invalid" in printed
    assert "Traceback" in printed
    assert PASSWORD not in printed


@pytest.fixture
def results(tiny: Path, tmp_path: Path) -> Path:
    """Results of a benchmark that names a password in its summary and its storage."""
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "benchmark.toml").write_text(BENCHMARK.split("[tuning]")[0])
    api.run(folder, plugins=[tiny])
    plan = json.loads((folder / "plan.json").read_text())
    assert PASSWORD not in (folder / "plan.json").read_text()
    plan["benchmark"]["tuning"] = {"storage": URL}  # as older versions wrote it
    (folder / "plan.json").write_text(json.dumps(plan))
    return folder


def test_no_page_and_no_pack_holds_one(results: Path, tmp_path: Path) -> None:
    (tmp_path / "card.toml").write_text(CARD.format(summary="x"))
    exchange.pack_submission(results, tmp_path / "card.toml", tmp_path / "pack", results)
    for path in (*(tmp_path / "pack").rglob("*"), results / "table.md"):
        if path.is_file():
            assert PASSWORD.encode() not in path.read_bytes(), path


def test_a_card_with_one_is_not_packed(results: Path, tmp_path: Path) -> None:
    (tmp_path / "card.toml").write_text(CARD.format(summary=f"trials in {URL}"))
    with pytest.raises(StoreError, match=r"method\.toml holds a password or key"):
        exchange.pack_submission(results, tmp_path / "card.toml", tmp_path / "pack", results)
    assert not (tmp_path / "pack").exists()


@pytest.mark.parametrize("name", ["plan.json", "method.toml"])
@pytest.mark.parametrize("secret", [URL, KEY])
def test_a_pack_with_one_is_refused(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, secret: str
) -> None:
    (tmp_path / "card.toml").write_text(CARD.format(summary="x"))
    exchange.pack_submission(results, tmp_path / "card.toml", tmp_path / "pack", results)
    path = tmp_path / "pack" / name
    text = path.read_text().replace('"x"', f'"{secret}"')
    path.write_text(text.replace("postgresql://me:***@db.invalid/trials", secret))
    manifest = json.loads((tmp_path / "pack" / "submission.json").read_text())
    manifest["files"][name] = facts_of(path).as_json()
    (tmp_path / "pack" / "submission.json").write_text(json.dumps(manifest))
    monkeypatch.setenv("MP_API_KEY", KEY)
    found = exchange.check_submission(tmp_path / "pack")
    assert any(f"{name} holds a password or key" in line for line in found.differences)
