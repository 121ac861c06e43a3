"""Published datasets are found in the user's folders, the cache, or fetched, verified and kept."""

from __future__ import annotations

import shutil
import socket
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from harness.plugin import DataError, Locations, read_neutral, shipped
from harness_paraisite import register_datasets, sources
from harness_paraisite.sources import git_blob_id

SPECS = {spec.name: spec for spec in register_datasets()}


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def served(tmp_path, monkeypatch, shared):
    """A folder with the published pickles, served on 127.0.0.1 in place of the repository."""
    folder = tmp_path / "served"
    folder.mkdir()
    for file in (shared / "published/structures_scalers").iterdir():
        shutil.copyfile(file, folder / file.name)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HARNESS_PARAISITE_URL", f"http://127.0.0.1:{server.server_port}/")
    yield folder
    server.shutdown()
    server.server_close()


@pytest.fixture
def nothing_served(monkeypatch):
    """An address on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HARNESS_PARAISITE_URL", f"http://127.0.0.1:{port}")


@pytest.fixture
def locations(tmp_path):
    (tmp_path / "data").mkdir()
    return Locations(data=(tmp_path / "data",), weights=(), cache=tmp_path / "cache", offline=False)


def load(name, locations):
    return list(SPECS[name].load(locations))


def test_a_neutral_file_of_the_user_is_taken(locations, nothing_served, shared):
    shutil.copyfile(shared / "data/AFLOW.jsonl.gz", locations.data[0] / "AFLOW.jsonl.gz")

    rows = load("AFLOW", locations)

    assert len(rows) == 3318
    assert rows[0]["id"] == "ICSD-56269"
    assert not locations.cache.exists()


@pytest.mark.parametrize("name", ["Dataset1", "Dataset2"])
def test_a_missing_dataset_is_downloaded_verified_converted_and_kept(
    name, locations, served, shared
):
    rows = load(name, locations)

    assert rows == list(read_neutral(shared / f"data/{name}.jsonl.gz"))
    kept = locations.cache / f"datasets/{name}.jsonl.gz"
    first = kept.read_bytes()
    shutil.rmtree(served)
    assert load(name, locations) == rows  # from the cache: there is nothing to download any more
    assert kept.read_bytes() == first
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]


def test_published_pickles_in_a_folder_of_the_user_need_no_network(
    locations, nothing_served, shared
):
    for file in ("Dataset1.pkl", "structures_Dataset1.pkl"):
        shutil.copyfile(shared / "published/structures_scalers" / file, locations.data[0] / file)

    assert len(load("Dataset1", locations)) == 95


def test_a_file_that_was_tampered_with_is_refused_unread(locations, served):
    file = served / "Dataset1.pkl"
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)

    with pytest.raises(DataError) as error:
        load("Dataset1", locations)

    message = str(error.value)
    assert "Dataset1.pkl is not the published file" in message
    assert "01ef76b21de4d0d5ef667a34ea5e93bd381783f4" in message
    assert git_blob_id(bytes(content)) in message
    assert not locations.cache.exists()


def test_a_file_that_is_not_there_is_one_clear_error(locations, served):
    # structures_AFLOW.pkl is not mirrored, so this is the case of a 404
    with pytest.raises(DataError, match=r"structures_AFLOW\.pkl failed: HTTP 404") as error:
        load("AFLOW", locations)

    assert_names_the_remedies(str(error.value), "AFLOW", locations)


def test_a_refused_connection_is_one_clear_error(locations, nothing_served):
    with pytest.raises(DataError, match=r"Dataset1\.pkl failed: .*[Rr]efused") as error:
        load("Dataset1", locations)

    assert_names_the_remedies(str(error.value), "Dataset1", locations)


def test_offline_never_reaches_for_the_network(locations, served):
    offline = Locations(data=locations.data, weights=(), cache=locations.cache, offline=True)

    with pytest.raises(DataError, match="HARNESS_OFFLINE") as error:
        load("Dataset2", offline)

    assert_names_the_remedies(str(error.value), "Dataset2", locations)


def assert_names_the_remedies(message, name, locations):
    for part in [
        f"{name!r} was not found",
        f"{name}.jsonl.gz",
        f"structures_{name}.pkl",
        str(locations.data[0]),
        str(locations.cache / "datasets"),
        "--data-dir",
        "$HARNESS_DATA",
        f"harness datasets fetch {name}",
    ]:
        assert part in message
    assert "\n" not in message


def test_a_cache_that_cannot_be_written_says_so(locations, served):
    locations.cache.write_text("a file where a folder should be")

    with pytest.raises(DataError, match=r"cannot be kept in .*\$HARNESS_CACHE"):
        load("Dataset1", locations)


def test_the_default_address_is_the_published_commit():
    commit = "cc0c1ff578cbed186ba930784db2909b0066a80e"

    assert commit in sources.PUBLISHED_URL
    assert all(commit in shipped(f"datasets/{name}.toml").read_text() for name in SPECS)


def test_the_blob_id_is_that_of_git():
    assert git_blob_id(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_every_mirrored_file_has_the_blob_id_on_its_card(shared):
    import tomllib

    on_cards = {}
    for name in SPECS:
        on_cards |= tomllib.loads(shipped(f"datasets/{name}.toml").read_text())["files"]

    assert len(on_cards) == 8
    for file in (shared / "published/structures_scalers").iterdir():
        assert git_blob_id(file.read_bytes()) == on_cards[file.name]
