"""The site: every page rendered, then put in the place of the site that was there before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import __version__
from harness.api import registry_of, render_csv
from harness.apps.site import leaderboard_pages, plots
from harness.apps.site.answers import make_answer
from harness.apps.site.cell_pages import CellPages
from harness.apps.site.comparisons import VERDICTS, Comparisons, Pair
from harness.apps.site.guides import FOLDER, START, make_guides
from harness.apps.site.html_tables import (
    SHADES,
    breakable,
    compact_json,
    linked,
    metric_title,
    prose,
    rows_html,
)
from harness.apps.site.kept_pages import MARKER, KeptPages, marker_text
from harness.apps.site.materials import make_materials
from harness.apps.site.model_pages import make_model_page
from harness.apps.site.overview import find_data, make_card
from harness.apps.site.processes import make_pool
from harness.apps.site.results import Results, check_names, find_sources, read_results
from harness.errors import StoreError
from harness.files import replacing_folder
from harness.plugin.cell import BASELINE
from harness.redaction import redacted
from harness.registry.attribution import blaming
from harness.registry.registry import Registry
from harness.report.overview import by_order
from harness.scoring.scores import SUBSETS

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

    from jinja2 import Environment

HERE = Path(__file__).resolve().parent
ASSETS = "_assets"
"""Folder of style and scripts: no leaderboard can be called so."""


@dataclass(frozen=True)
class Site:
    """What was written.

    Attributes:
        folder: where it lies.
        leaderboards: names of its leaderboards.
        pages: how many there are.
        size: of all files, in bytes.
    """

    folder: Path
    leaderboards: tuple[str, ...]
    pages: int
    size: int


def write_site(
    sources: Sequence[str | Path] = (),
    out: str | Path = "site",
    plugins: Sequence[str | Path] = (),
    jobs: int = 1,
) -> Site:
    """Writes leaderboards as a folder of pages that works from a file system, without a server.

    The same results give the same bytes. Pages of leaderboards that have not changed since are
    taken over from the site that lies there.

    Args:
        sources: benchmarks that were run, or folders with results; all in `leaderboards/` unless
            given.
        out: the folder; a site that lies there is replaced as a whole, once the new one is
            complete.
        plugins: Python files to load as plugins besides the installed ones.
        jobs: processes that render, each whole leaderboards.

    Raises:
        HarnessError: there are no results, or they are damaged; or `out` holds something else or
            cannot be written. What was there then stays.
    """
    folder = Path(out)
    _check_free(folder)
    wanted = sources or find_sources()
    kept = KeptPages(folder)
    registry = registry_of(*wanted, plugins=plugins)
    with ExitStack() as stack:
        pool = None
        if kept.are_none and min(jobs, len(wanted)) > 1:  # they start while this process reads
            pool = stack.enter_context(make_pool(min(jobs, len(wanted)), _load_libraries))
        stack.enter_context(blaming(registry))
        results = [read_results(source, registry) for source in wanted]
        check_names(results)
        results.sort(key=lambda own: by_order(own.leaderboard.order, own.leaderboard.name))
        if kept.are_all(results):
            return _describe(folder, results)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with replacing_folder(folder) as draft:
                fresh = [result for result in results if not kept.take(result, draft)]
                if pool is None and min(jobs, len(fresh)) > 1:
                    pool = stack.enter_context(make_pool(min(jobs, len(fresh))))
                with _rendered(fresh, draft, tuple(plugins), pool):
                    _write(_render(results, registry), draft)
                (draft / MARKER).write_text(marker_text(results, draft), encoding="utf-8")
        except OSError as problem:
            raise StoreError(
                f"Cannot write the site to {folder}: {problem.strerror}. "
                "Choose another folder with --to, or change its permissions."
            ) from problem
    return _describe(folder, results)


def _describe(folder: Path, results: Sequence[Results]) -> Site:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return Site(
        folder,
        tuple(result.leaderboard.name for result in results),
        sum(path.suffix == ".html" for path in files),
        sum(path.stat().st_size for path in files),
    )


def _check_free(folder: Path) -> None:
    """Sees that nothing but a site would be lost."""
    if folder.is_dir() and ((folder / MARKER).is_file() or not any(folder.iterdir())):
        return
    if folder.exists() or folder.is_symlink():
        raise StoreError(
            f"{folder} holds something else than a site (it has no {MARKER}) and is left alone: "
            "choose another folder with --to, or move it away."
        )


@contextmanager
def _rendered(
    results: Sequence[Results],
    draft: Path,
    plugins: Sequence[str | Path],
    pool: ProcessPoolExecutor | None,
) -> Iterator[None]:
    """Renders leaderboards, in other processes while the block runs; by its end, all are there.

    Args:
        results: of the leaderboards.
        draft: where the pages go.
        plugins: files to load as plugins.
        pool: the other processes; none where this one is to do it.
    """
    if pool is None:
        for result in results:
            _write(_render_leaderboard(_environment(), result), draft)
        yield
        return
    largest_first = sorted(results, key=lambda result: -len(result.cells))
    under_way = [
        pool.submit(_render_there, result.source, plugins, draft) for result in largest_first
    ]
    yield
    for future in under_way:
        future.result()


def _load_libraries() -> None:
    """Loads, in a process of its own, what rendering will need."""
    for name in ("jinja2", "matplotlib.backends.backend_svg", "pandas"):
        import_module(name)


def _render_there(source: str | Path, plugins: Sequence[str | Path], draft: Path) -> None:
    """Reads and renders one leaderboard, in a process of its own."""
    registry = registry_of(source, plugins=plugins)
    with blaming(registry):
        _write(_render_leaderboard(_environment(), read_results(source, registry)), draft)


def _write(files: Iterable[tuple[str, str]], draft: Path) -> None:
    for path, text in files:
        (draft / path).parent.mkdir(parents=True, exist_ok=True)
        (draft / path).write_text(redacted(text), encoding="utf-8", newline="\n")


# --- pages ------------------------------------------------------------------------------------


def _render(results: Sequence[Results], registry: Registry) -> Iterator[tuple[str, str]]:
    """Yields path and text of every file that is of no single leaderboard.

    Args:
        results: of all leaderboards, in the order shown.
        registry: knows their plugins.
    """
    environment = _environment()
    for asset in sorted((HERE / "assets").iterdir()):
        yield f"{ASSETS}/{asset.name}", asset.read_text(encoding="utf-8")
    template = environment.get_template("guide.html.j2")
    for guide in make_guides():
        yield f"{FOLDER}/{guide.name}.html", template.render(root="../", guide=guide, start=START)
    first = next((result for result in results if result.finding.leads), None)
    yield (
        "index.html",
        environment.get_template("site.html.j2").render(
            root="",
            cards=[make_card(result, result is first) for result in results],
            data=find_data(registry, results),
            first=first and make_answer(first, f"{first.leaderboard.name}/"),
            first_title=first and leaderboard_pages.title_of_leaderboard(first),
        ),
    )


@cache
def _environment() -> Environment:
    """What templates are read with, once in a process."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"prose": prose, "breakable": breakable, "linked": linked}
    environment.globals |= {
        "assets": ASSETS,
        "code": _code_address(),
        "rows": rows_html,
        "guides": f"{FOLDER}/{START}.html",
        "version": __version__,
        "plots": plots,
        "shades": SHADES,
        "verdicts": VERDICTS,
    }
    return environment


def _code_address() -> str:
    """Where the project says that its code lies; empty where it does not say."""
    try:
        known = metadata("paraisite-harness").get_all("Project-URL") or ()
    except PackageNotFoundError:
        return ""
    addresses = dict(url.split(", ", 1) for url in known)
    return next((addresses[name] for name in ("Source", "Repository") if name in addresses), "")


def _render_leaderboard(environment: Environment, results: Results) -> Iterator[tuple[str, str]]:
    name = results.leaderboard.name
    page = leaderboard_pages.make_leaderboard_page(results)
    published = leaderboard_pages.make_published_pages(results)
    compared = Comparisons(results)
    pairs = {metric: list(compared.pairs(metric)) for metric in results.metrics}
    comparable = any(pairs.values())
    makers = CellPages(results)
    materials = list(make_materials(results, makers.uses.tested))
    shared = {
        "root": "../",
        "page": page,
        "has_published": bool(published),
        "has_pairs": comparable,
        "has_materials": bool(materials),
        "family": results.family,
    }

    def render(template: str, **values: Any) -> str:
        return environment.get_template(template).render(**{**shared, **values})

    yield f"{name}/index.html", render("leaderboard.html.j2")
    tables = {subset: leaderboard_pages.make_cells_table(results, subset) for subset in SUBSETS}
    yield f"{name}/cells.html", render("cells.html.j2", tables=tables)
    yield from ((f"{name}/{file}", text) for file, text in render_csv(results.leaderboard).items())
    if published:
        yield f"{name}/published.html", render("published.html.j2", studies=published)
    if comparable:
        labels = [results.label(configuration) for configuration in results.configurations]
        first = _first_pair(results, next(filter(None, pairs.values())))
        yield f"{name}/compare.html", render("compare.html.j2", labels=labels, first=first)
        for metric, found in pairs.items():
            yield f"{name}/compare/{metric}.js", _pairs_script(results, metric, found)
    if materials:
        yield f"{name}/materials.html", render("materials.html.j2", parts=materials)
    yield from ((f"{name}/figures/{drawn.name}.svg", drawn.draw()) for drawn in page.figures)
    for configuration, cells in results.matrices.items():
        stages = makers.stages_of(next(iter(cells.values())))
        model = make_model_page(results, configuration, stages)
        text = render("model.html.j2", root="../../", model=model)
        yield f"{name}/models/{model.page}.html", text
    # cells have stages in common
    tell_stage = cache(lambda stage: render("stage.html.j2", stage=stage))
    for cell in results.cells:
        made = makers.make(cell)
        text = render("cell.html.j2", root="../../", cell=made, tell_stage=tell_stage)
        yield f"{name}/cells/{made.page}.html", text
        if made.rows is not None:
            yield f"{name}/cells/{made.page}.js", _script("harnessRows", made.rows.text)


def _first_pair(results: Results, pairs: Sequence[Pair]) -> tuple[int, int]:
    """The pair that is shown first: of two that were trained, where there are two."""
    transfer = results.model.index("transfer")
    for pair in pairs:
        both = (results.configurations[place] for place in (pair.first, pair.second))
        if all(configuration[transfer] != BASELINE for configuration in both):
            return pair.first, pair.second
    return pairs[0].first, pairs[0].second


def _pairs_script(results: Results, metric: str, pairs: Sequence[Pair]) -> str:
    content = {
        "metric": metric,
        "title": metric_title(results.metrics[metric]),
        "pairs": {f"{pair.first}-{pair.second}": pair.rows for pair in pairs},
    }
    return _script("harnessPairs", compact_json(content))


def _script(function: str, content: str) -> str:
    """A script that hands JSON to a page: from a file system, pages may load nothing else."""
    return f"{function}({content});\n"
