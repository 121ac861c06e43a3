"""A site of small leaderboards that were really run, and a browser to look at it with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness import api
from harness.apps.site.build import Site, write_site

ROOT = Path(__file__).resolve().parents[3]

BENCHMARK = """
title = "{title}"
summary = "Made for `tests`: <b>no markup</b> & no \\"meaning\\"."
train_on = ["Toy", "Twins"]
test_on = ["Toy", "Twins", "Source"]
backbones = ["tiny"]
heads = [{heads}]
{baselines}
transfers = ["scratch", {{ name = "two-stage", source = "Source", source_start = "random" }}]
runs = {runs}
metrics = ["mae-log", "mape", "spearman"]

[training]
epochs = 3
loss = "mae-log"
"""

COMMITTEE = '{ label = "both", of = ["scratch", "two-stage"] }'

TUNED = """
train_on = ["Toy"]
test_on = ["Toy"]
backbones = ["tiny"]
heads = ["mlp"]
baselines = []
runs = 2
metrics = ["mae-log", "mape", "spearman"]

[training]
epochs = 2
loss = "mae-log"

[tuning]
trials = 2
"""

BROKEN_HEAD = '''
"""A head whose predictions fail for the first crystals of every set."""

from harness.plugin import HeadSpec, Settings, hookimpl


def fit(settings, rows):
    import numpy as np

    def predict(embeddings):
        kappa = np.full(len(embeddings), rows.targets.mean())
        kappa[:2] = np.nan
        return kappa

    return predict


@hookimpl
def register_heads():
    return [HeadSpec("broken", "fails now and then", Settings, fit=fit)]
'''


@dataclass(frozen=True)
class Leaderboards:
    """Folders with results, and the plugins that they need."""

    folder: Path
    plugins: tuple[Path, ...]

    @property
    def sources(self) -> list[Path]:
        return sorted(path.parent for path in self.folder.glob("*/plan.json"))

    def write(self, out: Path, *names: str) -> Site:
        sources = [self.folder / name for name in names] or self.sources
        return write_site(sources, out, self.plugins)


@pytest.fixture(scope="session")
def leaderboards(tmp_path_factory: pytest.TempPathFactory) -> Leaderboards:
    """`whole` (3 runs), `failing`, `single` (one run), `tuned`, and `begun`, which was cut off."""
    folder = tmp_path_factory.mktemp("leaderboards")
    broken = folder / "broken_head.py"
    broken.write_text(BROKEN_HEAD)
    plugins = (ROOT / "tests" / "plugins" / "tiny.py", broken)
    mlp = '{ name = "mlp", hidden = [8] }'
    for name, heads, runs, baselines in (
        ("whole", mlp, 3, ""),
        ("failing", f'{mlp}, "broken"', 2, 'baselines = [{ head = "nearest" }]'),
        ("single", mlp, 1, f"baselines = []\ncommittees = [{COMMITTEE}]"),
    ):
        (folder / name).mkdir()
        text = BENCHMARK.format(
            title=f"A {name} board", heads=heads, runs=runs, baselines=baselines
        )
        (folder / name / "benchmark.toml").write_text(text)
        skip = ["transfers=['scratch']"] if name == "failing" else []
        api.run(folder / name, plugins=plugins, overrides=skip)
    (folder / "tuned").mkdir()
    (folder / "tuned" / "benchmark.toml").write_text(TUNED)
    api.run(folder / "tuned", plugins=plugins)
    shutil.copytree(folder / "whole", folder / "begun")
    rename(folder / "begun", "begun")
    lines = (folder / "begun" / "results.jsonl").read_text().splitlines(keepends=True)
    (folder / "begun" / "results.jsonl").write_text("".join(lines[:20]))
    return Leaderboards(folder, plugins)


def rename(leaderboard: Path, name: str) -> None:
    """Gives copied results the name of their folder."""
    plan = json.loads((leaderboard / "plan.json").read_text())
    plan["benchmark"] |= {"name": name, "title": f"A {name} board"}
    (leaderboard / "plan.json").write_text(json.dumps(plan))


@pytest.fixture(scope="session")
def site(leaderboards: Leaderboards, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them as a site, with the shipped leaderboard `learn-first`."""
    out = tmp_path_factory.mktemp("site") / "site"
    sources = [*leaderboards.sources, ROOT / "leaderboards" / "learn-first"]
    return write_site(sources, out, leaderboards.plugins).folder


# --- the browser --------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's chromium, driven by Playwright; a skip that says what is missing."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no chromium on this machine (on Debian: apt install chromium)")
    with sync_api.sync_playwright() as playwright:
        # without a sandbox, since CI runs as root, where chromium has none
        made = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield made
        made.close()


@dataclass
class Visit:
    """One page, opened from the file system, and whatever went wrong in it."""

    site: Path
    page: Any
    problems: list[str] = field(default_factory=list)

    def open(self, path: str) -> Any:
        self.page.goto(f"{self.site.as_uri()}/{path}")
        return self.page

    def texts(self, selector: str) -> list[str]:
        return [text.strip() for text in self.page.locator(selector).all_inner_texts()]


@pytest.fixture
def visit(browser: Any, site: Path) -> Iterator[Any]:
    """Opens pages; the test fails where one logs an error or asks for anything outside."""
    contexts, visits = [], []

    def make(**options: Any) -> Visit:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        context.set_default_timeout(10_000)
        contexts.append(context)
        found = Visit(site, context.new_page())
        visits.append(found)
        note = found.problems.append
        found.page.on("pageerror", lambda error: note(f"error: {error}"))
        found.page.on(
            "console",
            lambda said: note(said.text) if said.type in ("error", "warning") else None,
        )
        found.page.on(
            "request",
            lambda asked: (
                None if asked.url.startswith(("file:", "data:")) else note(f"request: {asked.url}")
            ),
        )
        found.page.on("requestfailed", lambda asked: note(f"missing: {asked.url}"))
        return found

    yield make
    problems = [problem for one in visits for problem in one.problems]
    for context in contexts:
        context.close()
    assert problems == []
