"""The folder that `harness site` writes: complete, self-contained, the same again, never half."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

from harness import api
from harness.api.docs_pages import page_names
from harness.apps.site.build import write_site
from harness.apps.site.kept_pages import MARKER
from harness.apps.site.results import read_results
from harness.apps.submissions import exchange
from harness.errors import HarnessError, StoreError
from harness.registry.registry import Registry
from harness.report.comparison import Side, compare
from harness.report.findings import gains_text
from harness.results.store import Store

ROOT = Path(__file__).resolve().parents[3]


class Links(HTMLParser):
    """Everything that a page refers to, and the ids in it."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.outside: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src", "data-source") and value:
                to_read = tag == "a" and value.startswith("https://")
                (self.outside if to_read else self.targets).append(value)
            if name == "id" and value:
                self.ids.append(value)


def pages(site: Path) -> Iterator[tuple[Path, Links]]:
    for path in sorted(site.rglob("*.html")):
        links = Links()
        links.feed(path.read_text(encoding="utf-8"))
        yield path, links


def data_of(script: Path) -> dict[str, Any]:
    """Reads what a script of data hands to its page."""
    text = script.read_text(encoding="utf-8")
    return json.loads(text[text.index("(") + 1 : text.rindex(")")])


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_every_link_leads_to_a_file_of_the_site(site: Path) -> None:
    for path, links in pages(site):
        for target in links.targets:
            file, _, anchor = unquote(target).partition("#")
            if not target.startswith("data:"):
                there = path.parent / file if file else path
                assert there.is_file(), f"{path.name}: {target}"
                assert not anchor or f'id="{anchor}"' in there.read_text(encoding="utf-8"), target


def test_nothing_is_loaded_from_outside(site: Path) -> None:
    for path, links in pages(site):
        assert not [t for t in links.targets if re.match(r"(\w+:)?//", t)], path
    for asset in (site / "_assets").iterdir():
        text = asset.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|@import|url\(|fetch\(|XMLHttpRequest", text), asset


def test_ids_are_unique_on_every_page(site: Path) -> None:
    for path, links in pages(site):
        assert len(links.ids) == len(set(links.ids)), path


def test_every_cell_has_a_page(leaderboards, site: Path) -> None:
    for source in leaderboards.sources:
        keys = {cell.key for cell in Store(source).read_plan().cells}
        assert {path.stem for path in (site / source.name / "cells").glob("*.html")} == keys


def test_every_guide_is_a_page_that_the_footer_leads_to(site: Path) -> None:
    pages_of_guides = {path.stem for path in (site / "_guides").glob("*.html")}
    assert pages_of_guides == set(page_names())
    assert "<h1>Footguns</h1>" in (site / "_guides" / "footguns.html").read_text(encoding="utf-8")
    for path, links in pages(site):
        assert any(target.endswith("_guides/index.html") for target in links.targets) or (
            path.name == "index.html" and path.parent.name == "_guides"
        )


def test_text_of_a_benchmark_is_text_not_markup(site: Path) -> None:
    text = (site / "whole" / "index.html").read_text()
    assert "<code>tests</code>: &lt;b&gt;no markup&lt;/b&gt; &amp; no" in text


def test_the_same_results_give_the_same_bytes(leaderboards, tmp_path: Path) -> None:
    first, second = (leaderboards.write(tmp_path / name, "failing") for name in ("a", "b"))
    assert files_of(first.folder) == files_of(second.folder)


def test_a_plain_table_needs_a_few_kb_of_script(site: Path) -> None:
    assert (site / "_assets" / "script.js").stat().st_size < 14_000
    assert "cell.js" not in (site / "whole" / "index.html").read_text()


def test_csv_files_are_those_of_the_leaderboard(leaderboards, site: Path) -> None:
    for name in ("table.csv", "table-overlap-free.csv"):
        assert (site / "whole" / name).read_text() == (
            leaderboards.folder / "whole" / name
        ).read_text()


# --- in its place, whole ------------------------------------------------------------------------


def test_a_site_is_replaced_as_a_whole(leaderboards, tmp_path: Path) -> None:
    leaderboards.write(tmp_path / "site", "single", "failing")
    written = leaderboards.write(tmp_path / "site", "single")
    assert written.leaderboards == ("single",)
    assert not (tmp_path / "site" / "failing").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["site"], "nothing is left beside it"


def test_a_folder_with_something_else_is_left_alone(leaderboards, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("dear")
    with pytest.raises(StoreError, match="holds something else than a site"):
        leaderboards.write(tmp_path / "thesis", "single")
    assert files_of(tmp_path) == {"thesis/chapter.tex": b"dear"}


def test_damaged_results_leave_the_old_site(leaderboards, tmp_path: Path) -> None:
    out = leaderboards.write(tmp_path / "site", "single").folder
    before = files_of(out)
    shutil.copytree(leaderboards.folder / "single", tmp_path / "single")
    damaged = next((tmp_path / "single" / "predictions").iterdir())
    damaged.write_bytes(b"no parquet")
    with pytest.raises(StoreError, match=re.escape(damaged.name) + ".*is damaged"):
        write_site([tmp_path / "single"], out, leaderboards.plugins)
    assert files_of(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["single", "site"]


def test_two_leaderboards_of_one_name_are_refused(leaderboards, tmp_path: Path) -> None:
    shutil.copytree(leaderboards.folder / "single", tmp_path / "other")
    with pytest.raises(StoreError, match="both called 'single'"):
        write_site(
            [leaderboards.folder / "single", tmp_path / "other"],
            tmp_path / "site",
            leaderboards.plugins,
        )


def test_no_results_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HarnessError, match="Run a benchmark first"):
        write_site()
    assert not list(tmp_path.iterdir())


def test_a_metric_of_a_plugin_that_is_not_loaded_is_named(leaderboards, tmp_path: Path) -> None:
    shutil.copytree(leaderboards.folder / "single", tmp_path / "single")
    plan = tmp_path / "single" / "plan.json"
    plan.write_text(plan.read_text().replace('"mape"', '"exotic"'))
    results = tmp_path / "single" / "results.jsonl"
    results.write_text(results.read_text().replace('"mape"', '"exotic"'))
    with pytest.raises(HarnessError, match="exotic"):
        write_site([tmp_path / "single"], tmp_path / "site", leaderboards.plugins)


def test_the_marker_says_what_the_folder_is(site: Path) -> None:
    assert "harness site" in (site / MARKER).read_text()


# --- what is in it ------------------------------------------------------------------------------


def test_rows_of_a_cell_are_those_that_were_stored(leaderboards, site: Path) -> None:
    store = Store(leaderboards.folder / "whole")
    for cell in store.read_plan().cells:
        stored = store.read_predictions(cell.key)
        shown = data_of(site / "whole" / "cells" / f"{cell.key}.js")
        names = [shown["materials"][row[1]][:2] for row in shown["rows"]]
        assert names == stored[["part", "id"]].to_numpy().tolist()
        for place, column in ((0, "run"), (2, "target"), (3, "prediction"), (4, "overlap")):
            assert [row[place] for row in shown["rows"]] == pytest.approx(
                stored[column].astype(float).tolist(), rel=1e-3
            )


def test_failed_predictions_are_nothing_in_the_data_and_counted_on_the_page(
    leaderboards, site: Path
) -> None:
    store = Store(leaderboards.folder / "failing")
    (broken, *_) = (c for c in store.read_plan().cells if c.head == "broken")
    stored = store.read_predictions(broken.key)
    failed = int((~np.isfinite(stored["prediction"])).sum())
    shown = data_of(site / "failing" / "cells" / f"{broken.key}.js")
    assert sum(row[3] is None for row in shown["rows"]) == failed > 0
    text = (site / "failing" / "cells" / f"{broken.key}.html").read_text()
    assert f"Failed and not drawn: {failed} predictions." in text
    assert f"failed ({failed} rows)" in text


def test_pairs_are_what_harness_compare_says(leaderboards, site: Path) -> None:
    results = read_results(leaderboards.folder / "whole", Registry(leaderboards.plugins))
    configurations = results.configurations
    for metric, spec in results.metrics.items():
        pairs = data_of(site / "whole" / "compare" / f"{metric}.js")["pairs"]
        first, second = configurations.index(trained(results, "scratch")), None
        second = configurations.index(
            trained(results, "two-stage(source=Source, source_start=random)")
        )
        one, other = (
            Side.read(Store(results.folder), {"transfer": configurations[place][2]})
            for place in (first, second)
        )
        expected = compare(one, other, spec).cells
        found = pairs[f"{first}-{second}"]
        assert [row[:2] for row in found] == expected[["train_on", "test_on"]].to_numpy().tolist()
        for place, column in ((4, "gain"), (5, "low"), (6, "high")):
            assert [row[place] for row in found] == pytest.approx(
                expected[column].tolist(), rel=1e-4
            )
        assert [row[8] for row in found] == [shown_p(p) for p in expected["p_holm"]]


def trained(results, transfer: str) -> tuple[str, ...]:
    (found,) = (c for c in results.configurations if transfer in c)
    return found


def shown_p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def test_files_that_were_not_kept_are_named(leaderboards, tmp_path: Path) -> None:
    shutil.copytree(leaderboards.folder / "single", tmp_path / "single")
    cell = Store(tmp_path / "single").read_plan().cells[-1]
    (tmp_path / "single" / "predictions" / f"{cell.key}.parquet").unlink()
    shutil.rmtree(tmp_path / "single" / "stages" / cell.chain[-1])
    write_site([tmp_path / "single"], tmp_path / "site", leaderboards.plugins)
    text = (tmp_path / "site" / "single" / "cells" / f"{cell.key}.html").read_text()
    assert f"predictions/{cell.key}.parquet was not kept" in text
    assert f"stages/{cell.chain[-1]}/stage.json was not kept" in text


def test_a_leaderboard_that_was_cut_off_says_what_is_missing(site: Path) -> None:
    text = (site / "begun" / "index.html").read_text()
    assert re.search(r"\d+ cells have not been run yet", text)
    assert "not run" in text


def test_rows_of_a_stage_are_counted_per_run_of_the_stage(leaderboards, site: Path) -> None:
    """However many of its runs have been scored: `begun` is `whole`, cut off within a cell."""

    def stages(leaderboard: str) -> list[str]:
        text = (site / leaderboard / "cells" / f"{cell.key}.html").read_text()
        ledger = re.search(r'<table[^>]*id="ledger".*?</table>', text, re.DOTALL)
        return [row for row in ledger[0].split("<tr") if "scoring" not in row] if ledger else []

    store = Store(leaderboards.folder / "begun")
    scored = store.scored()
    (cell,) = (cell for cell in store.read_plan().cells if len(scored.get(cell.key, ())) == 2)
    assert len(stages("begun")) > 1
    assert stages("begun") == stages("whole")


def test_a_tuned_cell_says_which_members_predict_and_what_chose_its_settings(
    leaderboards, site: Path
) -> None:
    (tuned, *_) = (c for c in Store(leaderboards.folder / "tuned").read_plan().cells if c.sources)
    text = (site / "tuned" / "cells" / f"{tuned.key}.html").read_text()
    members = [
        ", ".join(f"member {member} of {stage[:6]}" for stage, member in run)
        for run in tuned.sources
    ]
    assert f"run 1: {members[0]}; run 2: {members[1]}." in text
    assert "choice of settings" in text
    assert "tuned, 2 trials" in (site / "tuned" / "index.html").read_text()


def test_a_committee_says_which_members_predict_and_that_nothing_was_searched_for(
    leaderboards, site: Path
) -> None:
    (both,) = (
        c
        for c in Store(leaderboards.folder / "single").read_plan().cells
        if c.transfer == "committee" and (c.train_on, c.test_on) == ("Toy", "Toy")
    )
    text = (site / "single" / "cells" / f"{both.key}.html").read_text()
    assert f"member 0 of {both.sources[0][0][0][:6]}, member 0 of" in text
    assert "searched for" not in text


def test_a_committee_is_made_of_models_by_its_own_protocol(leaderboards, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    shutil.copy(leaderboards.folder / "single" / "benchmark.toml", mine)
    several = 'protocols=["strict", { name = "strict", keep = 0.5 }]'
    api.run(mine, plugins=leaderboards.plugins, overrides=[several])
    write_site([mine], tmp_path / "site", leaderboards.plugins)
    for protocol in ("strict", "strict-keep-0.5"):
        page = (tmp_path / "site" / "mine" / "models" / f"both-{protocol}.html").read_text()
        members = re.findall(r'<a href="(tiny-[^"]*)"', page.partition("A committee:")[2])
        assert members[:2] == [f"tiny-{name}-{protocol}.html" for name in ("scratch", "two-stage")]


# --- what came out, models, costs ----------------------------------------------------------------


def test_the_site_opens_with_the_answer_of_the_most_important_leaderboard(site: Path) -> None:
    """Of those here only `learn-first` says its place."""
    text = unescape((site / "index.html").read_text())
    results = read_results(ROOT / "leaderboards" / "learn-first", Registry())
    answer, cards = text.split("<h2>Leaderboards</h2>")
    assert "Does transfer learning help, and which model should I take?" in answer
    assert gains_text(results.finding.gains).split(";")[0][1:] in answer
    pages = {cell.name: cell.page for cell in results.cells}
    for lead in results.finding.leads:
        assert (
            f'<a href="learn-first/cells/{pages[lead.leader]}.html">{lead.mean:.2f}</a>' in answer
        )
    assert re.findall(r"<dt>name</dt><dd>([\w-]+)", cards)[0] == "learn-first"


def test_what_came_out_stands_on_the_card_and_on_top_of_the_page(leaderboards, tmp_path) -> None:
    shutil.copytree(leaderboards.folder / "single", tmp_path / "single")
    file = tmp_path / "single" / "benchmark.toml"
    file.write_text('finding = "Nothing, with `one` run."\n' + file.read_text())
    write_site([tmp_path / "single"], tmp_path / "site", leaderboards.plugins)
    for path in ("index.html", "single/index.html"):
        assert "Nothing, with <code>one</code> run." in (tmp_path / "site" / path).read_text()


def test_every_model_has_a_page_that_says_what_it_is(site: Path) -> None:
    results = read_results(ROOT / "leaderboards" / "learn-first", Registry())
    written = {path.stem for path in (site / "learn-first" / "models").glob("*.html")}
    assert written == set(results.model_pages.values())
    text = (site / "learn-first" / "models" / "megnet-pretrained.html").read_text()
    assert "MEGNet on collapsed graphs" in text
    assert "https://doi.org/10.1021/acs.chemmater.9b01294" in text
    assert re.search(r"sha256 <code>[0-9a-f]{64}</code>", text)
    both = (site / "single" / "models" / "both.html").read_text()
    members = '<a href="tiny-scratch.html">tiny scratch</a>; <a href="tiny-two-stage.html">'
    assert members in both


def test_costs_stand_beside_scores_where_they_were_measured(leaderboards, tmp_path) -> None:
    shutil.copytree(leaderboards.folder / "single", tmp_path / "single")
    (tmp_path / "single" / "costs.csv").write_text(
        "model,train_on,encode_seconds,fit_seconds,predict_seconds\n"
        "tiny scratch,Toy,0.001,12.3,0.002\n"
    )
    write_site([tmp_path / "single"], tmp_path / "site", leaderboards.plugins)
    page = (tmp_path / "site" / "single" / "index.html").read_text()
    assert 'data-label="fit, s" data-value="12.3">12</td>' in page
    assert (tmp_path / "site" / "single" / "figures" / "cost.svg").is_file()


def test_figures_are_there_where_there_is_something_to_draw(leaderboards, site: Path) -> None:
    def drawn(name: str) -> set[str]:
        return {path.stem for path in (site / name / "figures").glob("*.svg")}

    assert "gain" in drawn("learn-first") and "gain" in drawn("whole")
    assert drawn("tuned") == {"trials"}


CARD = """
name = "{name}"
title = "A try"
authors = ["{name}"]
summary = "Nothing to say."
licence = "CC0-1.0"
"""


def test_a_leaderboard_of_submissions_has_pages_too(leaderboards, tmp_path: Path) -> None:
    packed = []
    for name in ("ada", "bob"):
        card = tmp_path / f"{name}.toml"
        card.write_text(CARD.format(name=name))
        packed.append(tmp_path / f"packed-{name}")
        exchange.pack_submission(leaderboards.folder / "single", card, packed[-1])
    exchange.merge_submissions(packed, tmp_path / "people", Registry(leaderboards.plugins))
    write_site([tmp_path / "people"], tmp_path / "site", leaderboards.plugins)
    cells = Store(leaderboards.folder / "single").read_plan().cells
    shown = sorted((tmp_path / "site" / "people" / "cells").glob("*.html"))
    assert [path.stem for path in shown] == sorted(f"ada-{cell.key}" for cell in cells)
    assert "ada = bob" in (tmp_path / "site" / "people" / "index.html").read_text()
    assert 'id="parity"' in shown[0].read_text()


def test_published_cells_stand_beside_ours_with_differences(tmp_path: Path) -> None:
    results = read_results(ROOT / "leaderboards" / "paraisite", Registry())
    from harness.apps.site.leaderboard_pages import make_published_pages

    (study,) = make_published_pages(results)
    heats = study.transfers["scratch"]
    assert [heat.caption for heat in heats] == [
        "published table",
        "published per-run files",
        "re-run, published [true]",
        "re-run, published [as-published]",
    ]
    to_dataset1 = ["0.82 (0.21)", "0.51 (0.09)", "0.69 (0.15)", "0.55 (0.34)"]
    assert [row[1].text for row in heats[0].rows] == to_dataset1
    assert heats[1].rows[0][1].text == "0.54 (0.22) ≠"
    assert len(study.table.rows) == 44
    assert study.left_out == 0
    assert study.agreements[1].startswith("published [as-published]: 33 of 44 cells")
    first = study.table.rows[0]
    assert [entry.text for entry in first[:3]] == ["scratch", "Dataset1", "Dataset1"]
    assert first[5].href.startswith("cells/")
    ours = float(results.leaderboard.summary().query("transfer == 'scratch'")["mape"].iloc[0])
    assert first[7].value == pytest.approx((ours - 0.53903) / 0.22441)
