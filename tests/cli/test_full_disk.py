"""Where nothing can be written, every command says so, and blames nobody."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness import api
from harness.apps.submissions import exchange

BENCHMARK = """
train_on = ["Toy"]
test_on = ["Toy"]
backbones = ["tiny"]
heads = [{ name = "mlp", hidden = [8] }]
baselines = []
runs = 1
metrics = ["mae-log"]

[training]
epochs = 1
loss = "mae-log"
"""
CARD = """
name = "ada"
title = "A method"
authors = ["Ada"]
summary = "It does something."
licence = "CC0-1.0"
"""
NEW = "[tuning]\ntrials = 1\nensemble = 0\n"


@contextmanager
def nothing_larger_than(size: int) -> Iterator[None]:
    """Files of this process cannot grow beyond `size` bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def done(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("done")
    (folder / "benchmark.toml").write_text(BENCHMARK)
    api.run(folder, plugins=[tiny])
    return folder


@pytest.mark.filterwarnings("ignore:Encodings not cached")
@pytest.mark.parametrize("size", [0, 200])
@pytest.mark.parametrize(
    "command",
    [
        "run NEW --plugin TINY --jobs 1",
        "tune NEW --plugin TINY --jobs 1",
        "table DONE",
        "plot heatmap DONE --to OUT/heat.png",
        "export DONE transfer=scratch --plugin TINY --to OUT/bundle",
        "submission pack DONE --card OUT/card.toml --to OUT/packed",
        "submission merge PACKED --plugin TINY --into OUT/merged",
        "freeze DONE",
    ],
)
def test_every_command_says_that_it_cannot_write(
    harness, done: Path, tiny: Path, tmp_path: Path, command: str, size: int
) -> None:
    (tmp_path / "benchmark.toml").write_text(BENCHMARK + NEW)
    (tmp_path / "card.toml").write_text(CARD)
    packed = tmp_path / "from-ada"
    if "PACKED" in command:
        exchange.pack_submission(done, tmp_path / "card.toml", packed)
    places = {"PACKED": packed, "NEW": tmp_path, "DONE": done, "OUT": tmp_path, "TINY": tiny}
    for word, path in places.items():
        command = command.replace(word, str(path))
    with nothing_larger_than(size):
        status, _, err = harness(*command.split())
    assert "Traceback" not in err
    assert "plugin" not in err.replace(str(tiny), "")
    assert status == 2, err
    assert "File too large" in err
