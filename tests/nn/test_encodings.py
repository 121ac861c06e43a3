"""Promises of the encoding cache: same arrays, built once, whatever happens in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

import harness.nn.encodings as module
from harness.errors import CannotEncode, PluginError
from harness.nn.encodings import load_encodings, try_encodings
from harness.nn.graph import build_graph
from harness.plugin.arrays import Arrays
from harness.plugin.backbone import Backbone
from harness.plugin.crystal import Crystal
from harness.registry.plugin_calls import Breach

Encoding = dict[str, NDArray[Any]]


class Counting(Backbone):
    """Encodes graphs and remembers which crystals it was asked for in this process."""

    def __init__(self, encoding: str = "counting") -> None:
        self.encoding = encoding
        self.seen: list[str] = []

    def encode(self, crystal: Crystal) -> Encoding:
        self.seen.append(crystal.digest)
        graph = build_graph(crystal, 4.0)
        return {"src": graph.src, "dst": graph.dst, "distance": graph.distance}

    def pool(self, encodings: Any, device: Any) -> Any:
        raise AssertionError("only encodings are used here")

    def build(self, generators: Any) -> Any:
        raise AssertionError("only encodings are used here")


class Telling(Counting):
    """Says which process encoded each crystal."""

    def encode(self, crystal: Crystal) -> Encoding:
        return {"process": np.array(os.getpid()), **super().encode(crystal)}


class Together(Counting):
    """Encodes several at once, unless one of them has a lattice of 3.5 Å."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def encode_all(self, crystals: Sequence[Crystal]) -> list[Encoding]:
        self.sizes.append(len(crystals))
        if any(crystal.lattice[0, 0] == 3.5 for crystal in crystals):
            raise ArithmeticError("3.5 Å")
        return [Counting.encode(self, crystal) for crystal in crystals]


class Failing(Counting):
    """Fails at the crystal with a lattice of 3.5 Å, until it is mended."""

    def __init__(self, mended: bool = False) -> None:
        super().__init__()
        self.mended = mended

    def encode(self, crystal: Crystal) -> Encoding:
        if crystal.lattice[0, 0] == 3.5 and not self.mended:
            self.fail()
        return super().encode(crystal)

    def fail(self) -> None:
        raise ArithmeticError("3.5 Å")


class Killing(Failing):
    """Kills its process, as `kill -9` would, at the crystal with a lattice of 3.5 Å."""

    def fail(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Namesake(Counting):
    """Another backbone, which calls its encoding by the same name."""


class Given(Counting):
    """Hands out what it was made with."""

    def __init__(self, encodings: list[Encoding]) -> None:
        super().__init__()
        self.encodings = iter(encodings)

    def encode(self, crystal: Crystal) -> Encoding:
        return next(self.encodings)


def make_crystals(count: int) -> list[Crystal]:
    """Cubic crystals with lattices of 3.00, 3.01, … Å."""
    return [Crystal(np.eye(3) * (300 + i) / 100, ("Si",), np.zeros((1, 3))) for i in range(count)]


def assert_same(some: list[Encoding], others: list[Encoding]) -> None:
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert one.keys() == other.keys()
        for name, array in one.items():
            assert (array.dtype, array.shape) == (other[name].dtype, other[name].shape)
            np.testing.assert_array_equal(array, other[name])


def run_script(script: Path, *arguments: object) -> subprocess.Popen[str]:
    """Starts a script that may import this module."""
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    return subprocess.Popen(
        [sys.executable, str(script), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def shards(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.safetensors"))


# --- what is kept -----------------------------------------------------------------------------


def test_what_was_built_once_is_read_afterwards(tmp_path: Path) -> None:
    crystals = make_crystals(5)
    first = load_encodings(Counting(), crystals, tmp_path)
    again = Counting()
    assert_same(load_encodings(again, crystals[::-1], tmp_path), first[::-1])
    assert again.seen == []


def test_only_what_is_missing_is_built(tmp_path: Path) -> None:
    crystals = make_crystals(5)
    load_encodings(Counting(), crystals[1:3], tmp_path)
    backbone = Counting()
    load_encodings(backbone, crystals, tmp_path)
    assert backbone.seen == [crystals[i].digest for i in (0, 3, 4)]


def test_equal_crystals_are_encoded_once(tmp_path: Path) -> None:
    backbone = Counting()
    crystals = make_crystals(2) * 3
    encodings = load_encodings(backbone, crystals, tmp_path)
    assert len(backbone.seen) == 2
    assert_same(encodings[:2] * 3, encodings)


def test_another_encoding_has_entries_of_its_own(tmp_path: Path) -> None:
    crystals = make_crystals(2)
    load_encodings(Counting("cutoff 4"), crystals, tmp_path)
    other = Counting("cutoff 5")
    load_encodings(other, crystals, tmp_path)
    assert len(other.seen) == 2


def test_another_backbone_has_entries_of_its_own(tmp_path: Path) -> None:
    crystals = make_crystals(2)
    load_encodings(Counting("v1"), crystals, tmp_path)
    other = Namesake("v1")
    load_encodings(other, crystals, tmp_path)
    assert len(other.seen) == 2


numbers = st.sampled_from(sorted(module.STORABLE)).map(np.dtype)
arrays = hnp.arrays(numbers, hnp.array_shapes(min_dims=0, min_side=0, max_side=4))
encodings = st.dictionaries(st.text("ab/. é", max_size=3), arrays, max_size=4)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(encodings, min_size=1, max_size=5))
def test_arrays_of_any_name_number_type_and_shape_come_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, given_encodings: list[Encoding]
) -> None:
    cache = tmp_path_factory.mktemp("cache")
    crystals = make_crystals(len(given_encodings))
    load_encodings(Given(given_encodings), crystals, cache)
    assert_same(load_encodings(Given([]), crystals, cache), given_encodings)


@pytest.mark.parametrize("array", [np.array([{}]), np.array(["Na"]), [1.0], np.array([1j])])
def test_what_is_not_numbers_is_refused_at_once(tmp_path: Path, array: Any) -> None:
    with pytest.raises(PluginError, match=r"'species' as .* for crystal 'Si'; expected"):
        load_encodings(Given([{"species": array}] * 2), make_crystals(2), tmp_path)


def test_no_crystals_leave_no_trace(tmp_path: Path) -> None:
    assert load_encodings(Counting(), [], tmp_path / "cache") == []
    assert not (tmp_path / "cache").exists()


def test_progress_counts_what_is_built(tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    load_encodings(Counting(), make_crystals(1), tmp_path)
    load_encodings(
        Counting(), make_crystals(3), tmp_path, progress=lambda n, of: heard.append((n, of))
    )
    assert heard == [(1, 2), (2, 2)]


# --- what goes wrong --------------------------------------------------------------------------


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip(content: bytes) -> bytes:
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


@pytest.mark.parametrize("damage", [cut, flip, lambda _: b"", lambda _: b"\x80\x04N."])
def test_a_damaged_shard_is_named_and_built_again(tmp_path: Path, damage: Any) -> None:
    crystals = make_crystals(4)
    whole = load_encodings(Counting(), crystals, tmp_path)
    (shard,) = shards(tmp_path)
    shard.write_bytes(damage(shard.read_bytes()))
    with pytest.warns(UserWarning, match=f"damaged.*{shard.name}"):
        assert_same(load_encodings(Counting(), crystals, tmp_path), whole)
    again = Counting()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_encodings(again, crystals, tmp_path)
    assert again.seen == []


def test_a_cache_that_cannot_be_written_costs_a_warning_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="not cached"):
        found = load_encodings(Counting(), make_crystals(2), tmp_path / "file")
    assert_same(found, [Counting().encode(crystal) for crystal in make_crystals(2)])


def test_crystals_are_encoded_together_or_else_one_by_one(tmp_path: Path) -> None:
    crystals = make_crystals(100)
    backbone = Together()
    found = load_encodings(backbone, crystals, tmp_path, workers=1)
    assert_same(found, [Counting().encode(crystal) for crystal in crystals])
    assert sum(backbone.sizes) == 100
    assert max(backbone.sizes) == module.CHUNK_CRYSTALS
    assert backbone.seen == [crystal.digest for crystal in crystals]


def test_too_few_encodings_are_the_fault_of_encode_all(tmp_path: Path) -> None:
    class Losing(Together):
        def encode_all(self, crystals: Sequence[Crystal]) -> list[Encoding]:
            return super().encode_all(crystals)[1:]

    with pytest.raises(Breach, match=r"Losing\.encode_all must return a dict .* for each of 2"):
        load_encodings(Losing(), make_crystals(2), tmp_path, workers=1)


def test_an_error_keeps_what_was_built_before_it(tmp_path: Path) -> None:
    with pytest.raises(ArithmeticError):
        load_encodings(Failing(), make_crystals(60), tmp_path)
    backbone = Failing(mended=True)
    load_encodings(backbone, make_crystals(60), tmp_path)
    assert len(backbone.seen) == 10


KILLED = """
import os
import sys
from pathlib import Path
import harness.nn.encodings
from test_encodings import Counting, Killing, make_crystals

Killing.__module__ = sys.argv[3]  # the same class, whatever name its module is imported by
harness.nn.encodings.SHARD_CRYSTALS = 20
harness.nn.encodings.CHUNK_CRYSTALS = 10
if sys.argv[2] == "while writing":
    os.replace = lambda *paths: Killing().fail()
harness.nn.encodings.load_encodings(Killing(), make_crystals(60), Path(sys.argv[1]))
"""


@pytest.mark.parametrize(("moment", "left"), [("while encoding", 20), ("while writing", 60)])
def test_a_killed_process_leaves_its_finished_shards(
    tmp_path: Path, moment: str, left: int
) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    process = run_script(script, tmp_path / "cache", moment, __name__)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    backbone = Killing(mended=True)
    found = load_encodings(backbone, make_crystals(60), tmp_path / "cache")
    assert len(backbone.seen) == left
    assert_same(found, [Counting().encode(crystal) for crystal in make_crystals(60)])
    assert not list((tmp_path / "cache").rglob(".*"))


# --- many at once -----------------------------------------------------------------------------

BUILDING = """
import sys
from pathlib import Path
import harness.nn.encodings
from test_encodings import Counting, make_crystals

Counting.__module__ = sys.argv[2]  # the same class, whatever name its module is imported by
harness.nn.encodings.SHARD_CRYSTALS = 10
print("ready", flush=True)
sys.stdin.readline()
harness.nn.encodings.load_encodings(Counting(), make_crystals(300), Path(sys.argv[1]))
"""


def test_two_processes_that_build_at_once_leave_a_good_cache(tmp_path: Path) -> None:
    script = tmp_path / "building.py"
    script.write_text(BUILDING)
    both = [run_script(script, tmp_path / "cache", __name__) for _ in range(2)]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in both:
        _, complaint = process.communicate(timeout=60)
        assert (process.returncode, complaint) == (0, "")
    backbone = Counting()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load_encodings(backbone, make_crystals(300), tmp_path / "cache")
    assert backbone.seen == []
    assert_same(found, [Counting().encode(crystal) for crystal in make_crystals(300)])
    assert {path.suffix for path in (tmp_path / "cache").rglob("*.*")} == {".safetensors"}


def test_threads_may_share_a_cache(tmp_path: Path) -> None:
    def build(_: int) -> list[Encoding]:
        return load_encodings(Counting(), make_crystals(40), tmp_path)

    with ThreadPoolExecutor(4) as threads:
        first, *others = threads.map(build, range(4))
    for other in others:
        assert_same(other, first)
    assert len(shards(tmp_path)) == 1


# --- other processes --------------------------------------------------------------------------


def test_other_processes_build_the_same_in_the_same_order(tmp_path: Path) -> None:
    found = load_encodings(Telling(), make_crystals(100), tmp_path, workers=2)
    processes = {int(encoding.pop("process")) for encoding in found}
    assert os.getpid() not in processes
    assert_same(found, [Counting().encode(crystal) for crystal in make_crystals(100)])


@pytest.mark.parametrize(("seconds_per_worker", "elsewhere"), [(1e-9, 18), (1e9, 0)])
def test_other_processes_are_used_where_they_pay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds_per_worker: float, elsewhere: int
) -> None:
    monkeypatch.setattr(module, "SECONDS_PER_WORKER", seconds_per_worker)
    monkeypatch.setattr(module, "_count_cores", lambda: 2)
    found = load_encodings(Telling(), make_crystals(50), tmp_path)
    assert sum(int(encoding["process"]) != os.getpid() for encoding in found) == elsewhere


class Heavy(Telling):
    """Loads something for three seconds, by a clock that stands still otherwise."""

    def encode(self, crystal: Crystal) -> Encoding:
        if not self.seen:
            CLOCK[0] += 3.0
        CLOCK[0] += 0.1
        return super().encode(crystal)


CLOCK = [0.0]


@pytest.mark.parametrize(("crystals", "elsewhere"), [(60, 0), (100, 68)])
def test_processes_that_load_much_must_have_more_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crystals: int, elsewhere: int
) -> None:
    """2.8 s of work are not worth 3 s of loading in each of two; 6.8 s are."""
    monkeypatch.setattr(module, "perf_counter", lambda: CLOCK[0])
    monkeypatch.setattr(module, "_count_cores", lambda: 2)
    found = load_encodings(Heavy(), make_crystals(crystals), tmp_path)
    assert sum(int(encoding["process"]) != os.getpid() for encoding in found) == elsewhere


def test_a_backbone_that_cannot_be_sent_away_is_used_here(tmp_path: Path) -> None:
    backbone = Telling()
    backbone.unpicklable = lambda: None  # type: ignore[attr-defined]
    with pytest.warns(UserWarning, match="2 processes failed"):
        found = load_encodings(backbone, make_crystals(50), tmp_path, workers=2)
    assert {int(encoding["process"]) for encoding in found} == {os.getpid()}


def test_an_error_in_another_process_is_the_error_here(tmp_path: Path) -> None:
    with (
        pytest.warns(UserWarning, match="2 processes failed"),
        pytest.raises(ArithmeticError, match=r"3\.5 Å"),
    ):
        load_encodings(Failing(), make_crystals(60), tmp_path, workers=2)


LINGERING = """
import sys
from pathlib import Path
from harness.nn.encodings import load_encodings
from test_encodings import Lingering, make_crystals

Lingering.__module__ = "test_encodings"
if __name__ == "__main__":
    cache = Path(sys.argv[1])
    load_encodings(Lingering(cache.parent / "pids"), make_crystals(2000), cache, workers=2)
"""


class Lingering(Counting):
    """Takes its time, and notes the process that it is in."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file

    def encode(self, crystal: Crystal) -> Encoding:
        with self.file.open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.02)
        return super().encode(crystal)


def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    script, pids = tmp_path / "lingering.py", tmp_path / "pids"
    script.write_text(LINGERING)
    process = run_script(script, tmp_path / "cache")
    wait_until(lambda: pids.is_file() and len(set(pids.read_text().split())) == 2)
    process.kill()
    process.communicate()
    wait_until(lambda: not any(is_running(int(pid)) for pid in set(pids.read_text().split())))


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


UNGUARDED = """
import sys
from pathlib import Path
from harness.nn.encodings import load_encodings, try_encodings
from test_encodings import Counting, make_crystals

load_encodings(Counting(), make_crystals(50), Path(sys.argv[1]), workers=2)
print("finished")
"""


def test_an_unguarded_script_does_its_work_once_and_is_told(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(UNGUARDED)
    output, complaint = run_script(script, tmp_path / "cache").communicate(timeout=60)
    assert output == "finished\n"
    assert 'under `if __name__ == "__main__":`' in complaint


def test_importing_the_cache_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'pymatgen', 'pandas', 'optuna', 'matgl'}"
    code = f"import sys, harness.nn.encodings, harness.nn.graph; print({heavy} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


def test_encodings_satisfy_the_contract(tmp_path: Path) -> None:
    encodings: list[Arrays] = list(load_encodings(Counting(), make_crystals(1), tmp_path))
    assert encodings[0]["distance"].dtype == np.float32


def test_a_pipe_in_the_cache_is_not_waited_for(tmp_path: Path) -> None:
    crystals = make_crystals(2)
    whole = load_encodings(Counting(), crystals, tmp_path)
    (folder,) = tmp_path.iterdir()
    os.mkfifo(folder / "pipe.safetensors")
    with pytest.warns(UserWarning, match="not a regular file"):
        assert_same(load_encodings(Counting(), crystals, tmp_path), whole)


# --- refusals ---------------------------------------------------------------------------------


class Refusing(Counting):
    """Refuses the crystal with a lattice of 3.05 Å, and fails at that of 3.07 Å."""

    def encode(self, crystal: Crystal) -> Encoding:
        encoding = super().encode(crystal)
        if crystal.lattice[0, 0] == 3.05:
            raise CannotEncode("3.05 Å")
        if crystal.lattice[0, 0] == 3.07:
            raise ArithmeticError("3.07 Å\nor so")
        return encoding


class RefusingTogether(Counting):
    """Hands refusals out in the place of encodings."""

    def encode_all(self, crystals: Sequence[Crystal]) -> list[Encoding | CannotEncode]:
        return [self.encode(c) if c.lattice[0, 0] != 3.05 else CannotEncode("") for c in crystals]


def test_a_refusal_names_the_crystal_and_is_an_error_for_who_needs_all(tmp_path: Path) -> None:
    with pytest.raises(CannotEncode, match=r"The crystal 'Si': 3\.05 Å"):
        load_encodings(Refusing(), make_crystals(7), tmp_path)


@pytest.mark.parametrize("workers", [1, 2])
def test_refusals_and_errors_stand_for_their_crystals(tmp_path: Path, workers: int) -> None:
    crystals = make_crystals(10)
    found = try_encodings(Refusing(), crystals, tmp_path, workers=workers)
    bad = {row: encoded for row, encoded in enumerate(found) if isinstance(encoded, CannotEncode)}
    assert {row: (type(e), str(e)) for row, e in bad.items()} == {
        5: (CannotEncode, "3.05 Å"),
        7: (module.Fault, "ArithmeticError: 3.07 Å"),
    }
    good = [encoded for encoded in found if not isinstance(encoded, CannotEncode)]
    assert_same(good, [Counting().encode(c) for row, c in enumerate(crystals) if row not in bad])


def test_refusals_are_kept_and_errors_are_not(tmp_path: Path) -> None:
    try_encodings(Refusing(), make_crystals(10), tmp_path, workers=1)
    again = Refusing()
    found = try_encodings(again, make_crystals(10), tmp_path, workers=1)
    assert str(found[5]) == "3.05 Å"
    assert set(again.seen) == {make_crystals(10)[7].digest}


def test_encode_all_may_hand_refusals_out(tmp_path: Path) -> None:
    backbone = RefusingTogether()
    found = try_encodings(backbone, make_crystals(10), tmp_path, workers=1)
    assert [row for row, e in enumerate(found) if isinstance(e, CannotEncode)] == [5]
    assert len(backbone.seen) == 9


def test_what_is_no_crystals_doing_is_raised(tmp_path: Path) -> None:
    class Lacking(Counting):
        def encode(self, crystal: Crystal) -> Encoding:
            raise ImportError("the package")

    with pytest.raises(ImportError, match="the package"):
        try_encodings(Lacking(), make_crystals(3), tmp_path, workers=1)


def test_slow_encodings_are_written_sooner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARD_SECONDS", 0.0)
    load_encodings(Counting(), make_crystals(5), tmp_path, workers=1)
    assert len(shards(tmp_path)) == 5


class Loading(Telling):
    """Writes down in a file when it comes into being in another process, as a model that loads."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        with self.file.open("a") as file:
            file.write(f"{os.getpid()}\n")


def test_every_process_is_sent_the_backbone_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK_CRYSTALS", 4)
    backbone = Loading(tmp_path / "loaded")
    load_encodings(backbone, make_crystals(100), tmp_path / "cache", workers=2)
    loaded = (tmp_path / "loaded").read_text().split()
    assert 1 <= len(loaded) == len(set(loaded)) <= 2


def test_no_more_processes_than_are_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS_PER_WORKER", 1e-9)
    found = load_encodings(Telling(), make_crystals(50), tmp_path, most=1)
    assert {int(encoding["process"]) for encoding in found} == {os.getpid()}
