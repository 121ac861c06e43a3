"""Neutral files are found in order, read row by row, and written whole and reproducibly."""

from __future__ import annotations

import gzip

import pytest

from harness import DataError, Locations, find_neutral, read_neutral, write_neutral

ROWS = [{"id": "a", "kappa": 0.1 + 0.2, "species": ["Na", "Cl"]}, {"id": "ü", "kappa": -0.0}]


def locations(*data, cache):
    return Locations(data=data, weights=(), cache=cache, offline=True)


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.jsonl"])
def test_rows_come_back_as_they_were_written(tmp_path, name):
    path = tmp_path / "new folder" / name

    write_neutral(path, ROWS)

    assert list(read_neutral(path)) == ROWS
    assert [p.name for p in path.parent.iterdir()] == [name]


def test_equal_rows_give_equal_bytes(tmp_path):
    write_neutral(tmp_path / "a.jsonl.gz", ROWS)
    write_neutral(tmp_path / "b.jsonl.gz", ROWS)

    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


def test_a_failed_write_leaves_the_old_file_and_no_scratch(tmp_path):
    path = tmp_path / "x.jsonl.gz"
    write_neutral(path, ROWS)

    with pytest.raises(TypeError):
        write_neutral(path, [{"id": object()}])

    assert list(read_neutral(path)) == ROWS
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_folders_are_searched_in_order_and_the_cache_last(tmp_path):
    first, second, cache = tmp_path / "1", tmp_path / "2", tmp_path / "cache"
    where = locations(first, second, cache=cache)
    assert find_neutral("x", where) is None

    for path in (cache / "datasets/x.jsonl.gz", second / "x.jsonl", first / "x.jsonl.gz"):
        write_neutral(path, ROWS)
        assert find_neutral("x", where) == path


def test_a_bad_line_is_named_with_its_number(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"id": "a"}\n\n{"id": \n')

    with pytest.raises(DataError, match=r"x\.jsonl, line 3: not JSON"):
        list(read_neutral(path))


def test_a_line_that_is_no_object_is_an_error(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text("[1, 2]\n")

    with pytest.raises(DataError, match=r"line 1: expected an object .* found list"):
        list(read_neutral(path))


@pytest.mark.parametrize("damage", ["cut", "plain", "flipped"])
def test_a_damaged_archive_is_an_error_that_names_it(tmp_path, damage):
    path = tmp_path / "x.jsonl.gz"
    content = bytearray(gzip.compress(b'{"id": "a"}\n' * 1000, mtime=0))
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "plain":
        content = bytearray(b'{"id": "a"}\n')
    else:
        content[20] ^= 0xFF
    path.write_bytes(content)

    with pytest.raises(DataError, match=r"x\.jsonl\.gz cannot be read"):
        list(read_neutral(path))
