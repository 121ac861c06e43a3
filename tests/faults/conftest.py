"""Kills, races, damage and hostile input: how a try is made, judged and counted.

`$HARNESS_FAULT_TRIES` multiplies the number of tries (default 1: some minutes on two cores), and
`$HARNESS_FAULT_SEED` draws others. A table of kinds, tries and what held ends the report.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from hashlib import sha256
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from tests.faults.child import PRELOADED, Order, carry_out

FACTOR = float(os.environ.get("HARNESS_FAULT_TRIES", "1"))
SEED = os.environ.get("HARNESS_FAULT_SEED", "0")
PATIENCE_SECONDS = 60
"""After which a command hangs."""

VOLATILE = (
    "*.lock",  # of the operating system: the file means nothing
    ".lock-*",
    "*/.lock-*",
    "*/stage.json",  # seconds and memory
    "stages.jsonl",
    "*/stages.jsonl",
    "*/journal.log*",  # times
    "cache/*",
    "*.output",
    "*.changes",
)
"""What may differ between two undisturbed results."""

TRIES = "tries of faults"
"""What a test's report calls its tries: reports come to the table from other processes too."""

_STARTING = threading.Lock()


@pytest.hookimpl
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(item.path).is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl
def pytest_terminal_summary(terminalreporter: Any) -> None:
    tally: dict[str, list[bool]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, told in getattr(report, "user_properties", ()):
                if name == TRIES and getattr(report, "when", "") == "call":
                    tally.setdefault(told[0], []).extend(told[1])
    if not tally:
        return
    terminalreporter.section(f"faults (seed {SEED}, tries × {FACTOR:g})")
    width = max(map(len, tally))
    terminalreporter.line(f"{'kind':{width}} | tries | held")
    for kind, held in tally.items():
        terminalreporter.line(f"{kind:{width}} | {len(held):5} | {sum(held):4}")
    every = [held for of_kind in tally.values() for held in of_kind]
    terminalreporter.line(f"{'all':{width}} | {len(every):5} | {sum(every):4}")


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit status (None: it hung), and all that it has printed."""

    status: int | None
    output: str

    def wrongs(self, *names: str, fine: tuple[int, ...] = (0, 2, 3)) -> Iterator[str]:
        """Yields what is wrong with the end of a command that nobody has killed.

        Args:
            names: one of them must be in the output if the status is not 0.
            fine: the exit statuses that may be.
        """
        if self.status is None:
            yield "it hangs"
        elif self.status not in fine:
            yield f"exit status {self.status}"
        if "Traceback" in self.output or "bug in the harness" in self.output:
            yield "a traceback"
        if self.status not in (0, None) and names and not any(n in self.output for n in names):
            yield f"nothing is named ({' or '.join(names)})"


@dataclass
class Commands:
    """Carries out commands in processes of their own, in one folder.

    Attributes:
        folder: where things lie; `{}` in arguments stands for it.
        plugin: a file to load, for commands that take one.
    """

    folder: Path
    plugin: Path
    context: Any
    number: int = 0
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, line: str, dies_at: int = 0) -> tuple[BaseProcess, Order]:
        self.number += 1
        words = [word.replace("{}", str(self.folder)) for word in line.split()]
        order = Order(
            tuple(str(self.plugin) if word == "PLUGIN" else word for word in words),
            self.folder,
            self.folder / f"{self.number}.output",
            {
                "HARNESS_CACHE": str(self.folder / "cache"),
                "HARNESS_IMPORTS": str(self.folder / "imports"),
                "HARNESS_BUNDLES": str(self.folder / "bundles"),
                "HARNESS_OFFLINE": "1",
                **self.environment,
            },
            dies_at,
        )
        process = self.context.Process(target=carry_out, args=(order,))
        with _STARTING:  # which also looks after the children of other threads
            process.start()
        return process, order

    def end(self, process: BaseProcess, order: Order, seconds: float = PATIENCE_SECONDS) -> Ended:
        """Waits for a command, and kills it and its children when the time is over."""
        in_time = bool(connection.wait([process.sentinel], seconds))
        if not in_time:
            with _STARTING:
                if process.exitcode is None:
                    os.killpg(process.pid or 0, signal.SIGKILL)
            connection.wait([process.sentinel])
        with _STARTING:
            status = process.exitcode
        output = order.output.read_text(errors="replace") if order.output.is_file() else ""
        return Ended(status if in_time else None, output)

    def __call__(self, line: str, dies_at: int = 0, seconds: float = PATIENCE_SECONDS) -> Ended:
        """Carries out a command line of `harness`."""
        return self.end(*self.start(line, dies_at), seconds)

    def together(self, *lines: str) -> list[Ended]:
        """Carries out command lines at once."""
        started = [self.start(line) for line in lines]
        return [self.end(*one) for one in started]

    def changes(self) -> int:
        """How many changes of the file system the last command has made."""
        return int((self.folder / f"{self.number}.changes").read_text())


def contents(folder: Path, *but: str) -> dict[str, str]:
    """Digests of all files below a folder that undisturbed results have in common."""
    return {
        name: sha256(_in_order(name, path.read_bytes())).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
        for name in (path.relative_to(folder).as_posix(),)
        if not any(fnmatch(name, pattern) for pattern in (*VOLATILE, *but))
    }


def _in_order(name: str, content: bytes) -> bytes:
    """Lines of results follow the order in which several processes came to them."""
    lines = content.splitlines(keepends=True)
    return b"".join(sorted(lines)) if name.endswith("results.jsonl") else content


def debris(folder: Path) -> list[str]:
    """What writers that were killed have left, as paths."""
    paths = (path.relative_to(folder) for path in folder.rglob("*"))
    return [
        str(path)
        for path in paths
        if path.parts[0] != "cache"  # what is left there goes at the next write
        and (".unfinished" in path.name or path.suffix == ".parts")
    ]


def differences(one: Mapping[str, str], other: Mapping[str, str]) -> Iterator[str]:
    """Names files that are not the same in two results."""
    for name in sorted({*one, *other}):
        if one.get(name) != other.get(name):
            yield f"{name} {'differs' if name in one and name in other else 'is in one only'}"


def kill(process: BaseProcess) -> None:
    """Kills a command and its children, if it still is there."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid or 0, signal.SIGKILL)


Try = Callable[[Commands, random.Random], Iterable[str]]
"""A try in a folder of its own; yields what did not hold."""


@pytest.fixture(scope="session")
def context() -> Any:
    """Of processes that begin with everything loaded."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(PRELOADED)
    return made


@dataclass
class Trial:
    """Makes tries, several at once, and counts them."""

    context: Any
    plugin: Path
    home: Path
    record: Callable[[str, object], None]

    def commands(self, name: str) -> Commands:
        """Commands in a new folder."""
        folder = self.home / name.replace("/", "-")
        folder.mkdir()
        return Commands(folder, self.plugin, self.context)

    def __call__(self, kind: str, tries: int, attempt: Try) -> None:
        """Makes tries of a kind, each in a folder of its own with a generator of its own.

        Args:
            kind: what the table calls them.
            tries: how many, unless others are asked for.
            attempt: one of them.
        """
        total = max(1, round(tries * FACTOR))
        cores = len(os.sched_getaffinity(0))
        with ThreadPoolExecutor(cores) as pool:
            jobs = [pool.submit(self._one, kind, number, attempt) for number in range(total)]
            found = [job.result() for job in jobs]
        self.record(TRIES, (kind, [not wrongs for wrongs in found]))
        told = [f"{kind}, try {n}: {'; '.join(w)}" for n, w in enumerate(found) if w]
        assert not told, "\n" + "\n".join(told)

    def _one(self, kind: str, number: int, attempt: Try) -> list[str]:
        commands = self.commands(f"{kind} {number}")
        wrongs = list(attempt(commands, random.Random(f"{SEED} {kind} {number}")))
        if not wrongs:
            shutil.rmtree(commands.folder, ignore_errors=True)
        return wrongs


@pytest.fixture
def trial(
    context: Any, tiny: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> Trial:
    return Trial(context, tiny, tmp_path, record_property)


# --- what is disturbed -------------------------------------------------------------------------

BENCHMARK = """
train_on = ["Toy"]
test_on = ["Toy", "Twins"]
backbones = ["tiny"]
heads = [{ name = "mlp", hidden = [8] }]
transfers = ["scratch", { name = "two-stage", source = "Source", source_start = "random" }]
baselines = [{ head = "mean-log" }]
runs = 2
metrics = ["mae-log"]

[training]
epochs = 3
loss = "mae-log"
"""
SEARCH = """
train_on = ["Toy"]
test_on = ["Toy"]
backbones = ["tiny"]
heads = ["mlp"]
baselines = []
runs = 2
metrics = ["mae-log"]

[training]
epochs = 4
loss = "mae-log"

[tuning]
trials = 6
batch = 2
ensemble = 2
report_every = 1
sampler = "SAMPLER"
pruner = "PRUNER"

[tuning.space.training]
batch_size = [8, 16]
loss = "mae-log"

[tuning.space.heads.mlp]
layers = 1
width = [4, 8]
activation = "relu"
"""
CARD = """
name = "ada"
title = "A method"
authors = ["Ada"]
summary = "It does something."
licence = "CC0-1.0"
"""
SAID = "--unit W/mK --temperature 300 --method measured"
"""What a file with rows does not say."""


def rocksalts(number: int, kappa: float = 1.0) -> str:
    """Lines of JSON, each a crystal with a κ."""
    pairs = [(c, a) for c in "Li Na K Rb Cs Mg Ca Sr Ba".split() for a in "F Cl Br I O S".split()]
    lines = []
    for place in range(number):
        cation, anion = pairs[place % len(pairs)]
        half = 2.0 + 0.1 * (place % len(pairs) % 9) + 0.001 * (place // len(pairs))
        row = {
            "id": f"r{place}",
            "kappa": round(kappa + 0.25 * place, 4),
            "lattice": [[0, half, half], [half, 0, half], [half, half, 0]],
            "species": [cation, anion],
            "frac_coords": [[0, 0, 0], [0.5, 0.5, 0.5]],
        }
        lines.append(json.dumps(row))
    return "\n".join(lines) + "\n"


def lay_out(do: Commands, material: Path, needs: Iterable[str], **search: str) -> None:
    """Lays out what a command needs of the material, and a benchmark and a search to be run."""
    for name in needs:
        source = material / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, do.folder / name)
    (do.folder / "new").mkdir()
    (do.folder / "new" / "benchmark.toml").write_text(BENCHMARK)
    lay_out_search(do, **search)


def lay_out_search(do: Commands, sampler: str = "random", pruner: str = "none") -> None:
    """Lays out a search: unless told otherwise, no trial depends on which others have ended."""
    (do.folder / "search").mkdir()
    search = SEARCH.replace("SAMPLER", sampler).replace("PRUNER", pruner)
    (do.folder / "search" / "benchmark.toml").write_text(search)


@pytest.fixture(scope="session")
def material(context: Any, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results, a bundle, a submission, a search, imported data and files: to be copied."""
    folder = tmp_path_factory.mktemp("material")
    do = Commands(folder, tiny, context)
    (folder / "toy").mkdir()
    (folder / "toy" / "benchmark.toml").write_text(BENCHMARK)
    (folder / "card.toml").write_text(CARD)
    (folder / "few.jsonl").write_text(rocksalts(40))
    (folder / "many.jsonl").write_text(rocksalts(1300))
    for line in (
        "run {}/toy --plugin PLUGIN --jobs 1 -q",
        "export {}/toy transfer=scratch --plugin PLUGIN --to {}/bundle",
        "submission pack {}/toy --card {}/card.toml --to {}/ada",
        f"datasets import Mine {{}}/few.jsonl {SAID}",
    ):
        ended = do(line)
        assert ended.status == 0, (line, ended.output)
    return folder
