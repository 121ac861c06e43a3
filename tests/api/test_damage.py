"""What is damaged on disk is never used: `run` makes it again, or the error names it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from harness import api
from harness.errors import StoreError
from harness.results.store import Store

BENCHMARK = """
train_on = ["Toy"]
test_on = ["Toy", "Twins"]
backbones = ["tiny"]
heads = [{ name = "mlp", hidden = [8] }]
transfers = [{ name = "two-stage", source = "Source", source_start = "random" }]
baselines = [{ head = "mean-log" }]
runs = 2
metrics = ["mae-log"]

[training]
epochs = 2
loss = "mae-log"
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "toy"
    folder.mkdir()
    (folder / "benchmark.toml").write_text(BENCHMARK)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(folder.parent / "cache"))
        api.run(folder, plugins=[tiny])
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of finished results, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "toy"))


def chain_of(folder: Path) -> tuple[str, ...]:
    """The stages of the cell that is trained in two: parent, then child."""
    return max((cell.chain for cell in Store(folder).read_plan().cells), key=len)


def cell_of(folder: Path) -> str:
    return max(Store(folder).read_plan().cells, key=lambda cell: len(cell.chain)).key


def parent(folder: Path, name: str) -> Path:
    return folder / "stages" / chain_of(folder)[0] / name


def rows(folder: Path) -> Path:
    return folder / "predictions" / f"{cell_of(folder)}.parquet"


def flip(path: Path, place: float = 0.9) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def make_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()
    (path / "file").write_text("no part of results")


def make_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("no stage")


def change_rows(path: Path) -> None:
    """As damage would that hits no more than a number: the file is a table as before."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    frame = table.to_pandas()
    column = frame.columns[-1]
    frame[column] = frame[column].to_numpy()[::-1]
    pq.write_table(
        pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(
            table.schema.metadata
        ),
        path,
    )


def unfinish(folder: Path) -> None:
    """As if killed before the second stage: what goes on from the first one is not there."""
    shutil.rmtree(folder / "stages" / chain_of(folder)[1])
    path = folder / "results.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    kept = [line for line in lines if line["stage"] != chain_of(folder)[1]]
    path.write_text("".join(json.dumps(line) + "\n" for line in kept))


def same_results(folder: Path, finished: Path, tiny: Path) -> bool:
    verified = api.verify(folder, plugins=[tiny])
    one, other = (Store(f).complete_results(Store(f).read_plan()) for f in (folder, finished))
    return not verified.differences and one == other


PARENTS = {
    "one flipped byte": lambda folder: flip(parent(folder, "weights.safetensors")),
    "truncated weights": lambda folder: truncate(parent(folder, "weights.safetensors")),
    "a folder for weights": lambda folder: make_folder(parent(folder, "weights.safetensors")),
    "a truncated record": lambda folder: truncate(parent(folder, "stage.json")),
    "no record": lambda folder: parent(folder, "stage.json").unlink(),
    "a file for a stage": lambda folder: make_file(parent(folder, ".")),
    "a folder for a checkpoint": lambda folder: make_folder(
        folder / "stages" / f"{chain_of(folder)[1]}.checkpoint"
    ),
}


@pytest.mark.filterwarnings("ignore:.*made again")
@pytest.mark.parametrize("damage", PARENTS.values(), ids=PARENTS.keys())
def test_a_damaged_parent_is_trained_again(
    folder: Path, finished: Path, tiny: Path, damage: Callable[[Path], None]
) -> None:
    unfinish(folder)
    damage(folder)
    api.run(folder, plugins=[tiny])
    assert same_results(folder, finished, tiny)


FINISHED = {
    "no rows": lambda folder: rows(folder).unlink(),
    "truncated rows": lambda folder: truncate(rows(folder)),
    "changed rows": lambda folder: change_rows(rows(folder)),
    "a folder for rows": lambda folder: make_folder(rows(folder)),
    "rows of another cell": lambda folder: shutil.copy(
        next(p for p in (folder / "predictions").glob("*.parquet") if p != rows(folder)),
        rows(folder),
    ),
    "no ledger": lambda folder: parent(folder, "ledger.parquet").unlink(),
    "a changed ledger": lambda folder: change_rows(parent(folder, "ledger.parquet")),
    "a folder for a ledger": lambda folder: make_folder(parent(folder, "ledger.parquet")),
    "a truncated record": lambda folder: truncate(parent(folder, "stage.json")),
    "a file for a stage": lambda folder: make_file(parent(folder, ".")),
}


@pytest.mark.parametrize("damage", FINISHED.values(), ids=FINISHED.keys())
def test_what_a_finished_cell_has_lost_is_made_again(
    folder: Path, finished: Path, tiny: Path, damage: Callable[[Path], None]
) -> None:
    damage(folder)
    with pytest.warns(UserWarning, match="made again"):
        api.run(folder, plugins=[tiny])
    assert same_results(folder, finished, tiny)


def test_rows_are_made_again_where_the_weights_were_not_kept(
    folder: Path, finished: Path, tiny: Path
) -> None:
    for weights in folder.glob("stages/*/weights.safetensors"):
        weights.unlink()
    rows(folder).unlink()
    with pytest.warns(UserWarning, match="made again"):
        api.run(folder, plugins=[tiny])
    assert same_results(folder, finished, tiny)


def test_what_is_whole_is_left_as_it_is(
    folder: Path, tiny: Path, recwarn: pytest.WarningsRecorder
) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/**/*.parquet")}
    api.run(folder, plugins=[tiny])
    assert not recwarn.list
    assert before == {path: path.stat().st_mtime_ns for path in folder.glob("*/**/*.parquet")}


@pytest.mark.parametrize("place", [0.1, 0.2, 0.999])
def test_a_damaged_frozen_file_is_named(folder: Path, tiny: Path, place: float) -> None:
    api.freeze(folder)
    flip(folder / "predictions.parquet", place)
    with pytest.raises(StoreError, match=r"predictions\.parquet.* is damaged"):
        api.run(folder, plugins=[tiny])


def test_changed_frozen_rows_are_seen(folder: Path) -> None:
    api.freeze(folder)
    change_rows(folder / "predictions.parquet")
    with pytest.raises(StoreError, match="another digest than its index says"):
        Store(folder).read_predictions(cell_of(folder))


def test_rows_from_before_there_were_digests_are_read(folder: Path, tiny: Path) -> None:
    frame = pd.read_parquet(rows(folder))
    frame.to_parquet(rows(folder), index=False)
    assert Store(folder).read_predictions(cell_of(folder)).equals(frame)


def test_damaged_weights_are_not_read(folder: Path) -> None:
    flip(parent(folder, "weights.safetensors"))
    with pytest.raises(StoreError, match=r"weights\.safetensors .*not the file that was trained"):
        Store(folder).read_stage(chain_of(folder)[0])


@pytest.mark.parametrize("frozen", [False, True])
def test_more_rows_than_results_can_have_are_not_read(folder: Path, *, frozen: bool) -> None:
    """A file of some kB could fill any memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = rows(folder)
    if frozen:
        api.freeze(folder)
        path = folder / "predictions.parquet"
    schema = pq.read_schema(path)
    with pq.ParquetWriter(path, schema) as file:
        piece = pa.nulls(2**20).cast(pa.float64())
        columns = [piece.cast(field.type) for field in schema]
        for _ in range(20):
            file.write_table(pa.table(columns, schema=schema))
    with pytest.raises(StoreError, match="has 20971520 rows, and at most"):
        Store(folder).read_predictions(cell_of(folder))


def test_a_pipe_in_place_of_rows_is_not_waited_for(folder: Path) -> None:
    rows(folder).unlink()
    os.mkfifo(rows(folder))
    with pytest.raises(StoreError, match="not a regular file"):
        Store(folder).read_predictions(cell_of(folder))


@pytest.mark.parametrize("name", ["results.jsonl", "stage.json"])
def test_a_pipe_in_place_of_a_record_is_named_or_made_again(
    folder: Path, tiny: Path, name: str
) -> None:
    path = folder / name if name == "results.jsonl" else parent(folder, name)
    path.unlink()
    os.mkfifo(path)
    if name == "results.jsonl":
        with pytest.raises(StoreError, match=r"results\.jsonl.*not a regular file"):
            api.run(folder, plugins=[tiny])
    else:
        with pytest.warns(UserWarning, match="made again"):
            api.run(folder, plugins=[tiny])
        assert api.verify(folder, plugins=[tiny]).differences == ()
