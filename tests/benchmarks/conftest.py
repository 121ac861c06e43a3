"""What the benchmarks share: data, a stack to train, alternation of rivals, and the summary.

Figures depend on the machine and on what else it does. So nothing here is judged by an absolute
time: rivals take turns in one process, medians are compared, and the load stands beside them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

# Read when torch starts its threads, hence before it is imported. By default a thread that waits
# for the others spins, and so takes its core from whatever else would run there: on a machine that
# does other things besides, both rivals would mostly wait for threads that wait.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pytest
import torch

from harness import Registry, export, load_dataset, run
from harness.planning.member_training import MemberTraining
from harness.plugin import Dataset, Scaler, Split, TrainingSettings, derive_seed
from harness.training.stack_fit import StackData, fit

CPU = torch.device("cpu")
MEMBERS = 9
SAMPLE_ROWS = 400


@dataclass(frozen=True)
class Seconds:
    """What a piece of work took: by the clock, and by the processor (all threads together)."""

    wall: float
    cpu: float

    @classmethod
    def of(cls, work: Callable[[], object]) -> Seconds:
        wall, cpu = perf_counter(), process_time()
        work()
        return cls(perf_counter() - wall, process_time() - cpu)


def middle(rounds: list[Seconds]) -> Seconds:
    return Seconds(median(r.wall for r in rounds), median(r.cpu for r in rounds))


# --- data and stack ---------------------------------------------------------------------------


@pytest.fixture(scope="session")
def registry() -> Registry:
    return Registry()


@pytest.fixture(scope="session")
def aflow(shared) -> Dataset:
    """All 3,318 rows of the mirror."""
    return load_dataset("AFLOW", data_dir=shared / "data")


@pytest.fixture(scope="session")
def sample(aflow) -> Dataset:
    """400 rows of AFLOW, spread evenly over the file."""
    return aflow.limited(SAMPLE_ROWS)


@pytest.fixture(scope="session")
def splits(registry, sample) -> list[Split]:
    """The sample's published splits: 320 rows train, 80 validate; one split per member."""
    spec = registry.protocols["published"]
    rules = spec.make(spec.settings())
    return [rules.split(sample.formulas, run, 0) for run in range(1, MEMBERS + 1)]


@dataclass(frozen=True)
class TrainableStack:
    """Nine members of MEGNet with the published head, and what they are fitted to."""

    backbone: torch.nn.Module
    head: torch.nn.Module
    data: StackData
    selection: Any

    def train(self, epochs: int) -> None:
        """Trains with the published settings: batch 8, MAPE; validates after every epoch."""
        member_training = MemberTraining(TrainingSettings(epochs=epochs, loss="mape"))
        fit(
            self.backbone,
            self.head,
            self.data,
            member_training,
            selection=self.selection,
            device=CPU,
        )


@pytest.fixture(scope="session")
def make_stack(registry, sample, splits) -> Callable[..., TrainableStack]:
    """Makes the stack on the sample: graphs collapsed or whole, all members, some, or more.

    Further members are of further stages: they have the splits of the first ones, and other seeds.
    """

    def make(collapse: bool = True, members: Sequence[int] = range(MEMBERS)) -> TrainableStack:
        spec, head = registry.backbones["megnet"], registry.heads["mlp"]
        backbone = spec.make(spec.settings(collapse=collapse))
        generators = [torch.Generator().manual_seed(run) for run in members]
        own = [splits[run % MEMBERS] for run in members]
        data = StackData(
            pool=backbone.pool([backbone.encode(crystal) for crystal in sample.crystals], CPU),
            train=[split.train for split in own],
            validation=[split.validation for split in own],
            labels=np.tile(sample.targets, (len(members), 1)),
            scalers=[Scaler.fit(sample.targets, 1.0)] * len(members),
            seeds=[derive_seed(0, run) for run in members],
        )
        return TrainableStack(
            backbone.build(generators),
            head.make(head.settings(), backbone.width, generators),
            data,
            registry.metrics_of("thermal-conductivity")["mape"],
        )

    return make


BUNDLE = """
train_on = ["Experiment"]
test_on = ["Experiment"]
heads = [{ name = "mlp", hidden = [450, 350, 350] }]
baselines = []

[training]
epochs = 1
loss = "mae-log"
"""


@pytest.fixture(scope="session")
def bundle(tmp_path_factory) -> Path:
    """Nine members of MEGNet with the published head; what they have learnt does not matter."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "benchmark.toml").write_text(BUNDLE)
    run(folder)
    export(folder, "transfer=scratch", folder / "bundle")
    return folder / "bundle"


# --- measuring --------------------------------------------------------------------------------


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets torch's number of threads; what it was comes back afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def alternate(benchmark) -> Callable[..., tuple[Seconds, Seconds]]:
    """Lets two rivals take turns, B A B A …, and returns the median seconds of each.

    Whatever else the machine does then slows both alike. Ours is timed by pytest-benchmark too.
    With `own_clock`, theirs returns something with `wall` and `cpu`, its set-up left out.
    """

    def run(
        ours: Callable[[], object],
        theirs: Callable[[], Any],
        rounds: int = 3,
        own_clock: bool = False,
    ) -> tuple[Seconds, Seconds]:
        own: list[Seconds] = []
        other: list[Seconds] = []
        benchmark.pedantic(
            lambda: own.append(Seconds.of(ours)),
            setup=lambda: other.append(theirs() if own_clock else Seconds.of(theirs)),
            rounds=rounds,
            warmup_rounds=1,
        )
        return middle(own[1:]), middle(other[1:])

    return run


@pytest.fixture
def report(benchmark, record_property) -> Callable[..., None]:
    """Keeps figures with the benchmark (`--benchmark-json`) and shows them at the end."""

    def tell(**figures: Any) -> None:
        for name, value in figures.items():
            shown = f"{value:.3g}" if isinstance(value, float) else value
            benchmark.extra_info[name] = value
            record_property(name, shown)

    tell(load_average_at_start=os.getloadavg()[0])
    return tell


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("figures")
    for outcome in ("passed", "failed"):
        for done in terminalreporter.stats.get(outcome, []):
            if done.user_properties:
                terminalreporter.write_line(done.nodeid.rpartition("/")[-1])
            for name, value in done.user_properties:
                terminalreporter.write_line(f"    {str(name).replace('_', ' '):38} {value}")
