"""Checkpoint files: written when due, whole or not at all, refused when spoiled or foreign."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from harness.training.checkpoint import CheckpointFile

TENSORS = {"values": torch.arange(12.0).view(3, 4), "clocks": torch.tensor([1.0, 2.0])}
PROGRESS = {"epoch": 3, "best_score": [0.1, math.nan], "history": {"lr": [1e-3]}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "stage.checkpoint"


def write(path: Path, identity: str = "me") -> None:
    CheckpointFile(path, identity, 0.0).offer(TENSORS, PROGRESS)


def test_what_was_written_is_read_to_the_last_bit(path: Path) -> None:
    write(path)
    found = CheckpointFile(path, "me", 0.0).read()
    assert found is not None
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in TENSORS.items())
    assert found.progress["epoch"] == 3
    assert math.isnan(found.progress["best_score"][1])
    assert list(path.parent.iterdir()) == [path]


def test_nothing_saved_is_nothing_read(path: Path) -> None:
    assert CheckpointFile(path, "me", 0.0).read() is None
    nowhere = CheckpointFile(None, "me", 0.0)
    nowhere.offer(TENSORS, PROGRESS)
    assert nowhere.read() is None


def test_it_is_not_written_before_it_is_due_unless_the_fit_is_to_stop(path: Path) -> None:
    file = CheckpointFile(path, "me", 1e9)
    file.offer(TENSORS, PROGRESS)
    assert not path.exists()
    file.write(TENSORS, PROGRESS)
    assert CheckpointFile(path, "me", 0.0).read() is not None


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text"])
def test_a_damaged_file_is_ignored_with_a_warning(path: Path, damage: str) -> None:
    write(path)
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        content = content[:-5]
    elif damage == "flipped":
        content[-7] ^= 1
    else:
        content = bytearray(b"" if damage == "empty" else b"not a checkpoint at all")
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=r"Ignoring the checkpoint .*stage\.checkpoint"):
        assert CheckpointFile(path, "me", 0.0).read() is None


def test_a_foreign_file_is_ignored_with_a_warning(path: Path) -> None:
    write(path, identity="another")
    with pytest.warns(UserWarning, match="other settings, data or weights"):
        assert CheckpointFile(path, "me", 0.0).read() is None


def test_what_a_killed_process_left_half_written_is_swept_away(path: Path) -> None:
    write(path)
    unfinished = path.with_name(f".{path.name}.unfinished-killed")
    unfinished.mkdir()
    (unfinished / path.name).write_bytes(b"half")
    assert CheckpointFile(path, "me", 0.0).read() is not None
    assert list(path.parent.iterdir()) == [path]
