"""The site as its readers have it: in a browser, from the file system."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from harness.apps.site.results import read_results
from harness.registry.registry import Registry
from harness.results.store import Store


def columns(visit, table: str) -> list[str]:
    return [text.rstrip("↕↑↓ \u00a0") for text in visit.texts(f"#{table} thead th")]


def column(visit, table: str, title: str) -> list[str]:
    """The texts of one column, of the rows that are shown."""
    place = columns(visit, table).index(title) + 1
    rows = f"#{table} tbody tr:not([hidden])"
    return visit.texts(f"{rows} > :nth-child({place})")


def values(visit, table: str, title: str) -> list[float | None]:
    place = columns(visit, table).index(title) + 1
    cells = visit.page.locator(f"#{table} tbody tr:not([hidden]) > :nth-child({place})")
    found = cells.evaluate_all("cells => cells.map(cell => cell.dataset.value)")
    return [float(value) if value else None for value in found]


# --- tables -------------------------------------------------------------------------------------


@pytest.mark.parametrize("leaderboard", ["whole", "failing", "learn-first"])
@pytest.mark.parametrize(
    ("table", "file"),
    [("cells-all", "table.csv"), ("cells-overlap-free", "table-overlap-free.csv")],
)
def test_the_table_of_cells_holds_what_the_csv_holds(
    visit, site: Path, leaderboard: str, table: str, file: str
) -> None:
    v = visit()
    v.open(f"{leaderboard}/cells.html")
    with (site / leaderboard / file).open() as opened:
        lines = list(csv.DictReader(opened))
    assert v.page.locator(f"#{table} tbody tr").count() == len(lines)
    assert column(v, table, "trained on") == [line["train_on"] for line in lines]
    assert column(v, table, "tested on") == [line["test_on"] for line in lines]
    assert column(v, table, "head") == [line["head"] for line in lines]
    assert column(v, table, "failed") == [line["failed"] for line in lines]
    for title, name in (("MAE log₁₀ κ", "mae-log"), ("MAPE", "mape"), ("Spearman ρ", "spearman")):
        expected = [float(line[name]) if line[name] else None for line in lines]
        assert values(v, table, title) == pytest.approx(expected)


def test_sorting_really_reorders_and_missing_numbers_come_last(visit) -> None:
    v = visit()
    v.open("failing/index.html")
    before = values(v, "matrix", "Twins")
    assert None in before, "the head that fails has no score"
    present = [value for value in before if value is not None]
    missing = [None] * (len(before) - len(present))
    button = v.page.locator("#matrix thead button", has_text="Twins")
    button.click()
    assert values(v, "matrix", "Twins") == sorted(present) + missing
    head = v.page.locator("#matrix thead th[aria-sort]")
    assert (head.count(), head.get_attribute("aria-sort")) == (1, "ascending")
    button.click()
    assert values(v, "matrix", "Twins") == sorted(present, reverse=True) + missing
    assert head.get_attribute("aria-sort") == "descending"
    v.page.locator("#matrix thead button", has_text="model").click()
    names = column(v, "matrix", "model")
    assert names == sorted(names)
    assert head.count() == 1


def test_rows_stay_whole_when_sorted(visit) -> None:
    v = visit()
    v.open("learn-first/cells.html")
    rows = set(v.texts("#cells-all tbody tr"))
    v.page.locator("#cells-all thead button", has_text="MAPE").click()
    assert set(v.texts("#cells-all tbody tr")) == rows


def test_filters_filter_and_say_how_many_rows_are_left(visit) -> None:
    v = visit()
    v.open("learn-first/cells.html")
    bar = v.page.locator('[data-bar="cells-all"]')
    words = bar.get_by_role("searchbox")
    words.fill("random-forest mix")
    shown = v.texts("#cells-all tbody tr:not([hidden])")
    assert all("random-forest" in text and "MIX" in text for text in shown)
    assert len(shown) == 5, "trained or tested on MIX"
    assert bar.get_by_role("status").inner_text() == "5 of 81 rows"
    words.fill("")
    bar.get_by_role("combobox", name="transfer", exact=True).select_option("pretrained")
    bar.get_by_role("combobox", name="trained on", exact=True).select_option("Dataset1")
    assert column(v, "cells-all", "tested on") == ["Dataset1", "Dataset2", "MIX"]
    words.fill("nothing has this")
    assert bar.get_by_role("status").inner_text() == "0 of 81 rows"


def test_another_metric_takes_the_place_of_every_score(visit, site: Path, leaderboards) -> None:
    results = read_results(leaderboards.folder / "whole", Registry(leaderboards.plugins))
    v = visit()
    v.open("whole/index.html")
    v.page.locator("#heats-title + details summary").click()
    v.page.get_by_role("combobox", name="Metric", exact=True).select_option("spearman")
    v.page.get_by_role("combobox", name="Test rows", exact=True).select_option("overlap-free")
    assert "Spearman" in v.page.locator("[data-metric-title]").inner_text()
    for cell in results.cells:
        score = results.entries["spearman", "overlap-free"][cell.name]
        for place in v.page.locator(f'[data-key="{cell.page}"]').all():
            text = place.inner_text()
            if score.state == "scored":
                assert text.startswith(f"{score.mean:.2f} ({score.std:.2f})")
                shade = results.scales["spearman"].shade(score.mean)
                assert f"s{shade}" in place.get_attribute("class").split()
            else:
                assert score.state.split(" ")[0] in text
    legend = v.texts(".scale li")
    assert (legend[0], legend[-1]) == ("better", "worse")
    assert len(legend) == len(results.scales["spearman"].legend()) + 2


def test_the_best_come_first_and_ranks_follow_the_order(visit) -> None:
    v = visit()
    v.open("learn-first/index.html")
    trained, home = column(v, "matrix", "trained on"), values(v, "matrix", "MIX")
    pairs = zip(home, trained, strict=True)
    of_mix = [value for value, train in pairs if train == "MIX" and value is not None]
    assert of_mix == sorted(of_mix), "as the page comes: the best of each training set first"
    ranks = column(v, "matrix", "rank")
    assert [ranks[trained.index(train)] for train in dict.fromkeys(trained)] == ["1", "1", "1"]
    v.page.get_by_role("combobox", name="Metric", exact=True).select_option("spearman")
    v.page.locator("#matrix thead button", has_text="Dataset2").click()
    scores = [value for value in values(v, "matrix", "Dataset2") if value is not None]
    assert scores == sorted(scores, reverse=True), "higher is better"
    ranks, trained = column(v, "matrix", "rank"), column(v, "matrix", "trained on")
    assert [ranks[trained.index(train)] for train in dict.fromkeys(trained)] == ["1", "1", "1"]
    assert "Dataset2" in v.page.locator("[data-ranked]").inner_text()


def test_an_address_shows_what_its_sender_saw(visit) -> None:
    v = visit()
    v.open("learn-first/index.html")
    bar = v.page.locator('[data-bar="matrix"]')
    v.page.get_by_role("combobox", name="Metric", exact=True).select_option("mape")
    bar.get_by_role("combobox", name="trained on", exact=True).select_option("MIX")
    v.page.locator("#matrix thead button", has_text="Dataset1").click()
    bar.locator("summary").click()
    bar.get_by_label("transfer", exact=True).check()
    bar.get_by_label("Dataset2", exact=True).uncheck()
    shown, address = v.texts("#matrix tr:not([hidden])"), v.page.url
    for told in ("metric=mape", "matrix.trained+on=MIX", "matrix.sort=Dataset1", "transfer"):
        assert told in address
    v.page.goto("about:blank")
    v.page.goto(address)
    assert v.texts("#matrix tr:not([hidden])") == shown
    assert v.page.locator("#matrix thead th", has_text="Dataset2").is_hidden()


def test_what_is_shown_can_be_taken_as_csv(visit) -> None:
    v = visit()
    v.open("learn-first/index.html")
    v.page.locator('[data-bar="matrix"] input[type=search]').fill("megnet scratch")
    with v.page.expect_download() as download:
        v.page.locator('[data-bar="matrix"] a.action').click()
    assert download.value.suggested_filename == "matrix.csv"
    with Path(download.value.path()).open(encoding="utf-8") as opened:
        lines = list(csv.DictReader(opened))
    assert [line["model"] for line in lines] == column(v, "matrix", "model")
    assert lines[0]["Dataset1"].startswith(column(v, "matrix", "Dataset1")[0].split("\n")[0])


# --- cells --------------------------------------------------------------------------------------


def test_a_cell_opens_and_shows_all_that_is_behind_its_number(visit, leaderboards) -> None:
    v = visit()
    v.open("whole/index.html")
    v.page.locator("#matrix tbody tr", has_text="two-stage").locator("td a").first.click()
    v.page.wait_for_url("**/whole/cells/*.html")
    headings = v.texts("main h2")
    expected = ["Scores", "Runs", "Predictions", "Training", "Ledger and overlap"]
    assert headings == expected
    assert column(v, "runs", "run") == ["1", "2", "3"]
    assert v.page.locator("svg#parity path.row, svg#parity path.row.overlap").count() > 0
    assert v.page.locator("#worst tbody tr").count() > 0
    assert v.page.locator("svg[id^=loss-]").count() == 2, "two stages"
    for title in ("Settings", "Manifest: versions, digests, time"):
        v.page.locator("summary", has_text=title).first.click()
    assert "training.epochs" in v.page.locator("details[open]").first.inner_text()
    assert "environment.versions.torch" in v.page.locator("details[open]").last.inner_text()


def test_all_predictions_can_be_read_as_a_table(visit, leaderboards) -> None:
    store = Store(leaderboards.folder / "whole")
    cell = store.read_plan().cells[-1]
    stored = store.read_predictions(cell.key)
    v = visit()
    v.open(f"whole/cells/{cell.key}.html")
    v.page.get_by_role("button", name=f"Show all {len(stored)} predictions").click()
    v.page.wait_for_selector("#rows tbody tr")  # the rows come from a file of their own
    assert v.page.locator("#rows tbody tr").count() == len(stored)
    assert column(v, "rows", "id") == stored["id"].tolist()
    assert values(v, "rows", "target κ") == pytest.approx(stored["target"].tolist(), rel=1e-3)
    v.page.locator("#rows thead button", has_text="factor off").click()
    off = values(v, "rows", "factor off")
    assert off == sorted(off)
    v.page.locator('[data-bar="rows"] input[type=search]').fill(stored["id"].iloc[0])
    assert set(column(v, "rows", "id")) == {stored["id"].iloc[0]}


def test_pointing_at_the_plot_names_the_material(visit, leaderboards) -> None:
    cell = Store(leaderboards.folder / "whole").read_plan().cells[-1]
    v = visit()
    v.open(f"whole/cells/{cell.key}.html")
    spot = v.page.evaluate(
        """() => {
            const plot = document.getElementById("parity");
            plot.scrollIntoView({ behavior: "instant" });
            const path = plot.querySelector("path.row").getAttribute("d");
            const [, x, y] = path.match(/M([\\d.]+) ([\\d.]+)/);
            const at = new DOMPoint(x, y).matrixTransform(plot.getScreenCTM());
            return [at.x, at.y];
        }"""
    )
    v.page.mouse.move(*spot)
    v.page.mouse.move(spot[0] + 1, spot[1])
    v.page.wait_for_function("document.getElementById('tip').textContent.includes('predicted')")
    tip = v.page.locator("#tip").inner_text()
    assert re.search(r"\w+ \(.+, (Toy|Twins|Source)\), run \d: target [\d.]+, predicted", tip)


# --- comparison ---------------------------------------------------------------------------------


def test_a_comparison_can_be_chosen_swapped_and_linked_to(visit) -> None:
    v = visit()
    v.open("learn-first/compare.html")
    v.page.wait_for_selector("#pair tbody tr")
    assert v.page.locator("#pair tbody tr").count() == 9
    gains = values(v, "pair", "gain of B over A")
    verdicts = column(v, "pair", "verdict")
    scores = column(v, "pair", "A"), column(v, "pair", "B")
    # the figures of the paired test in the leaderboard's own table
    assert column(v, "pair", "gain of B over A")[:2] == ["+0.121", "−0.344"]
    assert column(v, "pair", "95 % interval")[1] == "−0.577 … −0.112"
    assert column(v, "pair", "p")[1] == "0.009"
    v.page.get_by_role("button", name="Swap A and B").click()
    assert values(v, "pair", "gain of B over A") == [-gain for gain in gains]
    assert column(v, "pair", "95 % interval")[1] == "+0.112 … +0.577"
    assert (column(v, "pair", "B"), column(v, "pair", "A")) == scores
    turned = {"better": "worse", "worse": "better"}
    expected = [re.sub("better|worse", lambda m: turned[m[0]], text) for text in verdicts]
    assert column(v, "pair", "verdict") == expected
    v.page.get_by_role("combobox", name="Metric", exact=True).select_option("spearman")
    v.page.wait_for_function("document.getElementById('pair-status').textContent.includes('ρ')")
    shown = v.texts("#pair tbody tr")
    address = v.page.url
    v.page.goto("about:blank")
    v.page.goto(address)
    v.page.wait_for_selector("#pair tbody tr")
    assert v.texts("#pair tbody tr") == shown


def test_a_configuration_is_not_compared_with_itself(visit) -> None:
    v = visit()
    v.open("learn-first/compare.html")
    v.page.get_by_role("combobox", name="B", exact=True).select_option(
        v.page.get_by_role("combobox", name="A", exact=True).input_value()
    )
    assert "are the same" in v.page.locator("#pair-status").inner_text()
    assert v.page.locator("#pair tbody tr").count() == 0


# --- every reader -------------------------------------------------------------------------------


def some_pages(site: Path) -> list[str]:
    """The pages of every kind, two cells of each leaderboard among them."""
    found = ["index.html"]
    for leaderboard in sorted(path.parent for path in site.glob("*/index.html")):
        found += [path.relative_to(site).as_posix() for path in sorted(leaderboard.glob("*.html"))]
        cells = sorted(leaderboard.glob("cells/*.html"))  # none in the folder of guides
        shown = (*cells[:1], *cells[-1:])
        found += [path.relative_to(site).as_posix() for path in shown]
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_quiet_asks_for_nothing_and_fits_a_phone(
    visit, site: Path, scheme: str
) -> None:
    v = visit(
        viewport={"width": 390, "height": 844},
        color_scheme=scheme,
        is_mobile=True,
        has_touch=True,
    )
    for path in some_pages(site):
        v.open(path)
        wide = v.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390, f"{path} is {wide} wide"
        ground = v.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (scheme == "light")


def test_everything_can_be_done_by_keyboard(visit) -> None:
    v = visit()
    v.open("whole/index.html")
    v.page.keyboard.press("Tab")
    assert v.page.evaluate("document.activeElement.textContent") == "Skip to the content"
    v.page.locator("#matrix thead button", has_text="Source").focus()
    v.page.keyboard.press("Shift+Tab")
    v.page.keyboard.press("Tab")
    outline = v.page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert outline == "3px", "the focus is seen"
    v.page.keyboard.press("Enter")
    assert v.page.locator("#matrix thead th[aria-sort=ascending]").count() == 1
    v.page.locator("#matrix td a").first.focus()
    v.page.keyboard.press("Enter")
    v.page.wait_for_url("**/cells/*.html")


def test_without_script_all_is_there_to_read(visit, site: Path) -> None:
    v = visit(java_script_enabled=False)
    v.open("learn-first/index.html")
    assert v.page.locator("#matrix tbody tr").count() == 27
    assert v.page.locator("#choice").is_hidden(), "nothing that would do nothing"
    v.page.locator("#matrix td a").first.click()
    assert v.texts("main h2")[0] == "Scores"


def test_tables_tell_assistive_programs_what_is_what(visit) -> None:
    v = visit()
    v.open("whole/index.html")
    assert v.page.get_by_role("columnheader").count() > 0
    assert v.page.locator("#matrix tbody th[scope=row]").count() > 0
    assert v.page.locator("#matrix thead th:not([scope=col])").count() == 0
    unnamed = (
        "svg[role=img]:not([aria-labelledby]), input:not(label input), select:not(label select)"
    )
    assert v.page.locator(unnamed).count() == 0
