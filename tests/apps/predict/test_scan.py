"""A scan: every row once, whatever stops it; and what comes out of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from harness import (
    BundleError,
    DataError,
    PluginError,
    StoreError,
    load_bundle,
    load_bundles,
    read_structures,
)
from harness.apps.predict import predicting, scanner
from harness.apps.predict.prediction_table import lay_out
from harness.apps.predict.scan_ranking import draw_scan, find_candidates
from harness.apps.predict.scanner import ScanReport
from harness.plugin import ExecutorRequest
from harness_properties import KAPPA

CHUNK = 8
ROWS = 45
FCC = [[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]]


def line(number: int, a: float = 0.0) -> str:
    row = {
        "id": f"s{number}",
        "lattice": [[(5 + 0.01 * number + a) * x for x in vector] for vector in FCC],
        "species": ["Na", "Cl"] if number % 7 else ["Na", "Xx"],
        "frac_coords": [[0, 0, 0], [0.5, 0.5, 0.5]],
    }
    return json.dumps(row) + "\n" if number % 11 else '{"torn": \n'


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanner, "CHUNK_STRUCTURES", CHUNK)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """45 structures, of which some are bad: 6 chunks."""
    path = tmp_path_factory.mktemp("source") / "rows.jsonl"
    path.write_text("".join(line(number) for number in range(ROWS)))
    return path


@pytest.fixture
def scan(toy_bundle: Path, tiny: Path, tmp_path: Path) -> Callable[..., ScanReport]:
    def go(source: object, table: str = "scan.parquet", **options: Any) -> ScanReport:
        options.setdefault("plugins", [tiny])
        return predicting.scan(str(source), toy_bundle, tmp_path / table, **options)

    return go


class Stop(Exception):
    pass


def stop_after(chunks: int) -> Callable[[ScanReport], None]:
    left = [chunks]

    def progress(report: ScanReport) -> None:
        left[0] -= 1
        if left[0] <= 0:
            raise Stop

    return progress


def test_the_table_is_what_the_bundle_says_of_every_row(scan, source, toy_bundle, tiny, tmp_path):
    report = scan(source)
    bundle = load_bundle(toy_bundle, plugins=[tiny])
    table = pq.read_table(tmp_path / "scan.parquet")
    expected = bundle.table(list(read_structures(source)))
    # Batches of another size round float32 in another way.
    assert_frame_equal(table.to_pandas(), expected.to_pandas(), rtol=1e-4, atol=1e-3)
    failed = [number for number in range(ROWS) if number % 7 == 0 or number % 11 == 0]
    assert (report.rows, report.failed) == (ROWS, len(failed))
    assert sum(report.reasons.values()) == len(failed)
    assert report.reasons["unknown element 'Xx'"] == 6
    assert [path.name for path in tmp_path.iterdir()] == ["scan.parquet"]


@settings(
    deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(stops=st.lists(st.integers(1, 6), max_size=3))
def test_stopped_anywhere_it_ends_in_the_same_table(stops, scan, source, tmp_path) -> None:
    for path in tmp_path.glob("*.parquet"):
        path.unlink()
    scan(source, "whole.parquet")
    done = 0
    for chunks in stops:
        with pytest.raises(Stop):
            scan(source, progress=stop_after(chunks))
        done = max(done, chunks)
        assert not (tmp_path / "scan.parquet").exists()
    report = scan(source)
    assert report.kept == min(done * CHUNK, ROWS)
    whole, stopped = (pq.read_table(tmp_path / f"{n}.parquet") for n in ("whole", "scan"))
    assert stopped.equals(whole)


def test_a_part_that_is_damaged_or_unfinished_is_made_again(scan, source, tmp_path) -> None:
    with pytest.raises(Stop):
        scan(source, progress=stop_after(4))
    parts = tmp_path / "scan.parquet.parts"
    (parts / "00000000.parquet").write_bytes(b"PAR1 torn")
    unfinished = parts / ".00000001.parquet.unfinished-killed"
    unfinished.mkdir()
    (unfinished / "00000001.parquet").write_bytes(b"torn")
    assert scan(source).kept == 3 * CHUNK
    scan(source, "whole.parquet")
    whole, mended = (pq.read_table(tmp_path / f"{n}.parquet") for n in ("whole", "scan"))
    assert mended.equals(whole)


def test_rows_that_were_changed_meanwhile_are_predicted_again(scan, tmp_path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(line(number) for number in range(ROWS)))
    with pytest.raises(Stop):
        scan(source, progress=stop_after(5))
    lines = [line(number, a=0.5 if number == CHUNK else 0) for number in range(ROWS)]
    source.write_text("".join(lines))
    assert scan(source).kept == 4 * CHUNK
    scan(source, "whole.parquet")
    whole, changed = (pq.read_table(tmp_path / f"{n}.parquet") for n in ("whole", "scan"))
    assert changed.equals(whole)


def test_a_table_that_is_there_is_kept_or_refused(scan, source, toy_bundle, tmp_path) -> None:
    scan(source)
    written = (tmp_path / "scan.parquet").read_bytes()
    again = scan(source)
    assert (again.rows, again.kept) == (ROWS, ROWS)
    other = tmp_path / "other.jsonl"
    other.write_text(line(1))
    for refused in (lambda: scan(other), lambda: scan(source, level=0.5)):
        with pytest.raises(StoreError, match="is there already"):
            refused()
    assert (tmp_path / "scan.parquet").read_bytes() == written


def test_the_beginning_of_another_scan_is_not_gone_on_with(scan, source, tmp_path) -> None:
    with pytest.raises(Stop):
        scan(source, progress=stop_after(2))
    with pytest.raises(StoreError, match="the beginning of another scan"):
        scan(source, level=0.5)
    with (
        scanner._reserved(tmp_path / "busy.parquet.parts", {}),  # noqa: SLF001
        pytest.raises(StoreError, match="Anoth"),
    ):
        scan(source, "busy.parquet")


def test_bad_requests_are_refused_before_anything_is_written(scan, source, tmp_path) -> None:
    with pytest.raises(DataError, match="no dataset of that name"):
        scan("Toi")
    with pytest.raises(StoreError, match=r"writes a Parquet file"):
        scan(source, "scan.csv")
    with pytest.raises(PluginError, match="'tiny'"):
        scan(source, plugins=[])
    assert not (tmp_path / "scan.parquet").exists()


def test_a_dataset_a_folder_and_an_empty_file_are_sources(scan, source, tmp_path) -> None:
    assert scan("Toy", "toy.parquet").rows == 48
    assert scan(source.parent, "folder.parquet").rows == ROWS
    (tmp_path / "empty.jsonl").write_text("")
    assert scan(tmp_path / "empty.jsonl", "empty.parquet").rows == 0
    assert pq.read_table(tmp_path / "empty.parquet").num_rows == 0


# --- several bundles --------------------------------------------------------------------------


@pytest.fixture
def scan_both(toy_bundle, energy_bundle, tiny, tmp_path) -> Callable[..., ScanReport]:
    def go(source: Path, table: str = "both.parquet", **options: Any) -> ScanReport:
        bundles = options.pop("bundles", [toy_bundle, energy_bundle])
        return predicting.scan(source, bundles, tmp_path / table, plugins=[tiny], **options)

    return go


def test_several_bundles_make_one_table_however_often_it_is_stopped(
    scan_both, source, toy_bundle, energy_bundle, tiny, tmp_path
) -> None:
    for chunks in (2, 4):
        with pytest.raises(Stop):
            scan_both(source, progress=stop_after(chunks))
    report = scan_both(source)
    assert (report.rows, report.kept) == (ROWS, 4 * CHUNK)
    loaded = load_bundles([toy_bundle, energy_bundle], plugins=[tiny])
    expected = loaded.table(list(read_structures(source)))
    table = pq.read_table(tmp_path / "both.parquet")
    assert_frame_equal(table.to_pandas(), expected.to_pandas(), rtol=1e-4, atol=1e-3)
    for key, counts in report.bundles.items():
        reasons = table.column(f"{key}_reason").to_pylist()
        assert counts.failed == sum(map(bool, reasons)) == sum(counts.reasons.values())
        assert counts.applicable == table.column(f"{key}_applicable").to_pylist().count(True)
    assert report.failed == sum(counts.failed for counts in report.bundles.values())


def test_a_scan_of_other_bundles_is_another_scan(
    scan_both, source, toy_bundle, energy_bundle
) -> None:
    scan_both(source)
    other = [energy_bundle, toy_bundle], [toy_bundle], {"a": toy_bundle, "b": toy_bundle}
    for bundles in other:
        with pytest.raises(StoreError, match="is there already, and not the table of"):
            scan_both(source, bundles=bundles)
    assert scan_both(source, bundles={"other": toy_bundle, "names": energy_bundle}).kept == ROWS


def test_a_scan_of_another_property_is_refused_before_anything_is_written(
    scan_both, source, tmp_path
) -> None:
    with pytest.raises(BundleError, match="not band gap"):
        scan_both(source, properties=["band-gap"])
    assert not list(tmp_path.iterdir())


def test_candidates_meet_every_bound_and_come_in_the_order_of_one(
    scan_both, source, toy_bundle, energy_bundle, tiny, tmp_path
) -> None:
    scan_both(source)
    table = tmp_path / "both.parquet"
    kappa, energy = layout = predicting.layout_of([toy_bundle, energy_bundle], [tiny])
    frame = pq.read_table(table).to_pandas()
    most = {one.key: float(frame[one.of_property("mean")].quantile(0.7)) for one in layout}
    low = frame[
        (frame["kappa_mean"] <= most[kappa.key])
        & (frame["formation_energy_per_atom_mean"] <= most[energy.key])
    ]
    rows, total = find_candidates(table, layout, most, 4, sort_by=energy)
    assert total == len(low) < len(frame)
    expected = low.sort_values("formation_energy_per_atom_mean", kind="stable")["id"].tolist()
    assert [row["id"] for row in rows] == expected[:4]
    assert set(rows[0]) < set(frame.columns)
    rows, _ = find_candidates(table, layout, {energy.key: most[energy.key]}, 4)
    assert [row["id"] for row in rows] == frame["id"][
        frame["formation_energy_per_atom_mean"] <= most[energy.key]
    ].tolist()[:4]


def test_every_bundle_has_its_panel_on_its_own_scale(
    scan_both, source, toy_bundle, energy_bundle, tiny, tmp_path, monkeypatch
) -> None:
    scan_both(source)
    table = tmp_path / "both.parquet"
    layout = predicting.layout_of([toy_bundle, energy_bundle], [tiny])
    figure = draw_scan(table, "title", layout, {"kappa": 1.0, "formation_energy_per_atom": -9.0})
    kappa, energy = figure.axes
    assert (kappa.get_xscale(), energy.get_xscale(), energy.get_yscale()) == (
        "log",
        "linear",
        "linear",
    )
    assert energy.get_xlabel() == "predicted E_f, eV/atom: mean over the ensemble"
    assert energy.get_ylabel() == "std, eV/atom over the ensemble"
    drawn = np.concatenate([np.asarray(points.get_offsets()) for points in energy.collections])
    frame = (
        pq.read_table(table)
        .to_pandas()[["formation_energy_per_atom_mean", "formation_energy_per_atom_std"]]
        .dropna()
    )
    assert np.sort(drawn, axis=0) == pytest.approx(np.sort(frame.to_numpy(), axis=0))
    assert energy.get_xlim()[0] < -9.0
    monkeypatch.setattr("harness.apps.predict.scan_ranking.POINTS", 5)
    density = draw_scan(table, "title", layout).axes[1].collections[0].get_array()
    assert density.sum() == len(frame)


def test_a_prediction_far_off_hides_no_other(scan, source, tmp_path) -> None:
    scan(source)
    table = pq.read_table(tmp_path / "scan.parquet")
    mean = table.column("kappa_mean").to_pylist()
    usual = [value for value in mean if value is not None]
    place = table.column_names.index("kappa_mean")
    mean[mean.index(max(usual))] = 1e30
    pq.write_table(table.set_column(place, "kappa_mean", [mean]), tmp_path / "far.parquet")
    axes: Any = draw_scan(tmp_path / "far.parquet", "title", lay_out([("toy", KAPPA)])).axes[0]
    assert sum(len(points.get_offsets()) for points in axes.collections) == len(usual)


# --- candidates -------------------------------------------------------------------------------


def test_candidates_are_the_lowest_or_the_first(scan, source, tmp_path) -> None:
    scan(source)
    table = tmp_path / "scan.parquet"
    frame = pq.read_table(table).to_pandas().dropna(subset=["kappa_mean"])
    bound = float(frame["kappa_mean"].quantile(0.4))
    low = frame[frame["kappa_mean"] <= bound]
    (kappa,) = layout = lay_out([("toy", KAPPA)])
    rows, total = find_candidates(table, layout, {"kappa": bound}, 5, sort_by=kappa)
    assert total == len(low)
    assert [row["id"] for row in rows] == low.sort_values("kappa_mean")["id"].tolist()[:5]
    rows, total = find_candidates(table, layout, {"kappa": bound}, 5)
    assert ([row["id"] for row in rows], total) == (low["id"].tolist()[:5], len(low))
    assert find_candidates(table, layout, {"kappa": 0.0}, 5, sort_by=kappa) == ([], 0)
    assert find_candidates(table, layout, {}, 3, sort_by=kappa)[1] == len(frame)


def test_the_plot_shows_every_prediction(scan, source, tmp_path, monkeypatch) -> None:
    scan(source)
    table = tmp_path / "scan.parquet"
    drawn = pq.read_table(table).to_pandas()["kappa_mean"].notna().sum()
    layout = lay_out([("toy", KAPPA)])
    axes: Any = draw_scan(table, "title", layout, {"kappa": 1.0}).axes[0]
    assert sum(len(points.get_offsets()) for points in axes.collections) == drawn
    monkeypatch.setattr("harness.apps.predict.scan_ranking.POINTS", 5)
    density = draw_scan(table, "title", layout).axes[0].collections[0].get_array()
    assert density.sum() == drawn


# --- processes --------------------------------------------------------------------------------

SCRIPT = """
import os, signal, sys
from harness.apps.predict import predicting, scanner

def progress(report):
    if report.rows >= {rows}:
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    scanner.CHUNK_STRUCTURES = {chunk}
    source, bundle, table, plugin = sys.argv[1:]
    predicting.scan(source, bundle, table, plugins=[plugin], jobs=2, progress=progress)
"""


@pytest.mark.slow
def test_killed_among_its_processes_it_goes_on(scan, source, toy_bundle, tiny, tmp_path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(rows=3 * CHUNK, chunk=CHUNK))
    command = [sys.executable, str(script), str(source), str(toy_bundle)]
    command += [str(tmp_path / "scan.parquet"), str(tiny)]
    done = subprocess.run(command, env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "scan.parquet").exists()
    report = scan(source, jobs=2)
    assert report.rows == ROWS
    assert report.kept >= 3 * CHUNK
    scan(source, "whole.parquet")
    whole, resumed = (pq.read_table(tmp_path / f"{n}.parquet") for n in ("whole", "scan"))
    assert resumed.column("id").equals(whole.column("id"))
    assert resumed.equals(whole)


@pytest.mark.slow
def test_an_error_of_a_process_is_told_as_it_is(scan, source) -> None:
    with pytest.raises(PluginError, match="'tiny'"):
        scan(source, plugins=[], jobs=2)


def test_an_executor_leaves_the_same_table_and_goes_on_after_a_stop(scan, source, tiny, tmp_path):
    scan(source)
    pool = tiny.with_name("pool.py")
    elsewhere = {"plugins": [tiny, pool], "executor": ExecutorRequest("pool", workers=2)}
    with pytest.raises(Stop):
        scan(source, "there.parquet", progress=stop_after(3), **elsewhere)
    report = scan(source, "there.parquet", **elsewhere)
    assert report.rows == ROWS
    assert report.kept > 0
    here, there = (tmp_path / name for name in ("scan.parquet", "there.parquet"))
    assert there.read_bytes() == here.read_bytes()


def test_an_executor_predicts_what_this_process_predicts(source, toy_bundle, tiny):
    plugins = [tiny, tiny.with_name("pool.py")]
    here = predicting.predict_files([source], toy_bundle, plugins=plugins)
    pool = ExecutorRequest("pool", workers=2)
    there = predicting.predict_files([source], toy_bundle, plugins=plugins, executor=pool)
    assert_frame_equal(there, here, rtol=1e-5)


def test_other_properties_than_those_asked_for_are_refused_before_an_executor_is_made(
    source, toy_bundle, tiny
):
    with pytest.raises(BundleError, match="band-gap"):
        predicting.predict_files(
            [source],
            toy_bundle,
            properties=["band-gap"],
            plugins=[tiny],
            executor=ExecutorRequest("nothing"),
        )
