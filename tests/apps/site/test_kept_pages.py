"""A site that is written again renders only what has changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.api import render_csv
from harness.apps.site import build
from harness.apps.site.build import write_site
from harness.errors import StoreError


@pytest.fixture
def sources(leaderboards, tmp_path: Path) -> list[Path]:
    """Two leaderboards that need no plugin, to be changed at will."""
    one, other = tmp_path / "results" / "one", tmp_path / "results" / "other"
    for folder in (one, other):
        shutil.copytree(leaderboards.folder / "single", folder)
        plan = folder / "plan.json"
        plan.write_text(plan.read_text().replace('"name":"single"', f'"name":"{folder.name}"'))
        plan.write_text(plan.read_text().replace('"name": "single"', f'"name": "{folder.name}"'))
    return [one, other]


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the leaderboards that are rendered, as it happens."""
    names: list[str] = []

    def noted(leaderboard):
        names.append(leaderboard.name)
        return render_csv(leaderboard)

    monkeypatch.setattr(build, "render_csv", noted)
    return names


def files_of(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_nothing_new_leaves_the_site_alone(sources, rendered, tmp_path: Path) -> None:
    first = write_site(sources, tmp_path / "site")
    inode = (tmp_path / "site" / "index.html").stat().st_ino
    assert write_site(sources, tmp_path / "site") == first
    assert rendered == ["one", "other"]
    assert (tmp_path / "site" / "index.html").stat().st_ino == inode


def test_what_has_changed_is_rendered_and_the_rest_is_taken_over(
    sources, rendered, tmp_path: Path
) -> None:
    write_site(sources, tmp_path / "site")
    (sources[1] / "notes.txt").write_text("new")
    rendered.clear()
    write_site(sources, tmp_path / "site")
    assert rendered == ["other"]
    write_site(sources, tmp_path / "fresh")
    assert files_of(tmp_path / "site") == files_of(tmp_path / "fresh")


def test_pages_that_somebody_changed_are_rendered_again(sources, rendered, tmp_path: Path) -> None:
    write_site(sources, tmp_path / "site")
    page = tmp_path / "site" / "one" / "index.html"
    page.write_text("mine")
    rendered.clear()
    write_site(sources, tmp_path / "site")
    assert rendered == ["one"]
    assert page.read_text() != "mine"


def test_a_site_of_other_leaderboards_holds_no_page_of_the_former(sources, tmp_path: Path) -> None:
    write_site(sources, tmp_path / "site")
    write_site(sources[:1], tmp_path / "site")
    assert not (tmp_path / "site" / "other").exists()
    write_site(sources[:1], tmp_path / "fresh")
    assert files_of(tmp_path / "site") == files_of(tmp_path / "fresh")


def test_other_processes_render_the_same_bytes(sources, rendered, tmp_path: Path) -> None:
    write_site(sources, tmp_path / "here")
    rendered.clear()
    write_site(sources, tmp_path / "there", jobs=2)
    assert rendered == [], "nothing in this process"
    assert files_of(tmp_path / "here") == files_of(tmp_path / "there")


def test_what_fails_in_another_process_is_told_and_leaves_the_site(sources, tmp_path: Path) -> None:
    write_site(sources, tmp_path / "site")
    before = files_of(tmp_path / "site")
    table = next((sources[1] / "predictions").glob("*.parquet"))
    table.write_bytes(b"damaged")
    (sources[0] / "notes.txt").write_text("new")
    with pytest.raises(StoreError, match=table.name):
        write_site(sources, tmp_path / "site", jobs=2)
    assert files_of(tmp_path / "site") == before
