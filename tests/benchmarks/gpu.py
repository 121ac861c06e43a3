"""What a GPU does for training and scanning, and whether it does the same as a CPU: one script.

    python -m tests.benchmarks.gpu                  # on a machine with a CUDA device
    python -m tests.benchmarks.gpu --device cpu     # a rehearsal, with small stacks

It is no test: no machine that runs the tests has such a device. It needs the tree and what the
harness needs (numpy, pydantic, pymatgen, torch and others); where these cannot be installed, carry
them as wheels. It ends within `--minutes`, leaving out what there is no time for, and writes its
figures, with the names of the cards, to `--out`.

Trained are stacks of MEGNet with the published head, 450-350-350, batch 8 per member, on crystals
of the embedded dataset whose atoms are moved a little, so that their graphs do not collapse to
those of perfect crystals. A member-epoch is one pass of one member over its 320 training rows.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from harness import Crystal, Registry, TrainingSettings, load_dataset
from harness.planning.member_training import MemberTraining
from harness.plugin import Scaler, derive_seed
from harness.training.fit_data import StackData
from harness.training.prediction import predict
from harness.training.stack_fit import StackFit

if TYPE_CHECKING:
    from harness.plugin.arrays import Floats, Indices

CPU = torch.device("cpu")
ROWS, TRAIN_ROWS = 400, 320
MEMBERS = (9, 27, 99)
REHEARSED = (3, 9)
SCANNED = 20_000
MOVED_ANGSTROM = 0.05
TOLERANCE = 1e-3
"""Largest difference of predictions of CPU and GPU after one epoch, in decades of κ: both round
every product to single precision, in another order, and an epoch of 40 steps lets that grow."""


@dataclass(frozen=True)
class Stack:
    """A stack that is trained, and what it is made of."""

    fit: StackFit
    model: torch.nn.ModuleDict
    data: StackData
    device: torch.device

    def predict(self, rows: Sequence[Indices]) -> list[Floats]:
        parts = self.model["backbone"], self.model["head"]
        return predict(*parts, self.data.pool, rows, self.data.scalers, device=self.device)


@dataclass(frozen=True)
class Material:
    """What stacks are made of: a model, encoded crystals and their κ."""

    registry: Registry
    crystals: list[Crystal]
    kappa: Any

    @classmethod
    def make(cls, rows: int) -> Material:
        dataset = load_dataset("Experiment")
        chance = np.random.default_rng(0)
        places = list(islice(cycle(range(len(dataset))), rows))
        crystals = [_moved(dataset.crystals[place], chance) for place in places]
        return cls(Registry(), crystals, np.asarray(dataset.targets)[places])

    def stack(
        self, members: int, epochs: int, device: torch.device, train_rows: int = TRAIN_ROWS
    ) -> Stack:
        spec, head = self.registry.backbones["megnet"], self.registry.heads["mlp"]
        backbone = spec.make(spec.settings())
        generators = [torch.Generator().manual_seed(member) for member in range(members)]
        orders = [np.random.default_rng(m).permutation(ROWS) for m in range(members)]
        data = StackData(
            pool=backbone.pool([backbone.encode(c) for c in self.crystals[:ROWS]], device),
            train=[order[:train_rows] for order in orders],
            validation=[order[TRAIN_ROWS:] for order in orders],
            labels=np.tile(self.kappa[:ROWS], (members, 1)),
            scalers=[Scaler.fit(self.kappa[:ROWS], 0.0)] * members,
            seeds=[derive_seed(0, member) for member in range(members)],
        )
        parts = {
            "backbone": backbone.build(generators),
            "head": head.make(head.settings(), backbone.width, generators),
        }
        model = torch.nn.ModuleDict(parts)
        training = MemberTraining(TrainingSettings(epochs=epochs, loss="mae-log"))
        metric = self.registry.metrics_of("thermal-conductivity")["mae-log"]
        fit = StackFit(model, data, [training] * members, selection=metric, device=device)
        return Stack(fit, model, data, device)


def _moved(crystal: Crystal, chance: np.random.Generator) -> Crystal:
    cell = np.asarray(crystal.lattice)
    moved = chance.normal(0.0, MOVED_ANGSTROM, (len(crystal.species), 3)) @ np.linalg.inv(cell)
    return Crystal(cell, crystal.species, np.asarray(crystal.frac_coords) + moved)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """By the clock, until the device has done all that it was given."""
    _wait(device)
    began = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# --- what is looked at ------------------------------------------------------------------------


def agreement(material: Material, device: torch.device, members: int) -> dict[str, Any]:
    """CPU and device from the same weights, by the same rows; and the device twice."""

    def train(where: torch.device) -> Any:
        stack = material.stack(members, 1, where)
        stack.fit.train()
        return np.log10(np.stack(stack.predict([np.arange(ROWS)] * members)))

    on_cpu, first, again = train(CPU), train(device), train(device)
    difference = float(np.abs(on_cpu - first).max())
    return {
        "largest difference from the CPU, decades": difference,
        "within the tolerance": difference <= TOLERANCE,
        "two runs on the device are equal to the last bit": bool(np.array_equal(first, again)),
    }


def training(material: Material, device: torch.device, members: int) -> dict[str, Any]:
    """Member-epochs per second of a stack, and the memory that it takes."""
    epochs = 3
    stack = material.stack(members, epochs, device)
    stack.fit.train(until=1)  # what is set up once is not counted
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    took = seconds(lambda: stack.fit.train(until=epochs), device)
    steps = (epochs - 1) * -(-TRAIN_ROWS // 8)
    found = {
        "member-epochs per second": members * (epochs - 1) / took,
        "milliseconds per step": 1000 * took / steps,
    }
    if device.type == "cuda":
        found["peak memory, MiB"] = torch.cuda.max_memory_allocated(device) / 2**20
    return found


def waits(material: Material, device: torch.device, members: int) -> dict[str, Any]:
    """How often a step makes the host wait for the device."""
    stack = material.stack(members, 2, device)
    stack.fit.train(until=1)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            stack.fit.train(until=2)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    places: dict[str, int] = {}
    for one in told:
        if "synchroniz" in str(one.message):
            place = f"{Path(one.filename).name}:{one.lineno}"
            places[place] = places.get(place, 0) + 1
    return {"waits in an epoch": sum(places.values()), "where": places}


def profile(material: Material, device: torch.device, members: int) -> dict[str, Any]:
    """Where the time of an epoch goes: the ten dearest operations, and the number of launches."""
    from torch.profiler import ProfilerActivity

    on_device = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_device else [])]
    stack = material.stack(members, 2, device)
    stack.fit.train(until=1)
    with torch.profiler.profile(activities=activities) as seen:
        stack.fit.train(until=2)
    kind = "self_device_time_total" if on_device else "self_cpu_time_total"
    events = sorted(seen.key_averages(), key=lambda event: -getattr(event, kind))
    steps = -(-TRAIN_ROWS // 8)
    launches = sum(e.count for e in events if e.key in ("cudaLaunchKernel", "cuLaunchKernel"))
    return {
        "launches per step": launches / steps,
        "milliseconds per epoch": {e.key: getattr(e, kind) / 1000 for e in events[:10]},
    }


def scanning(material: Material, device: torch.device, members: int) -> dict[str, Any]:
    """Crystals per second that a stack predicts, once they are encoded."""
    stack = material.stack(members, 1, device)
    rows = [np.arange(SCANNED) % ROWS] * members
    stack.predict(rows)
    return {"crystals per second": SCANNED / seconds(lambda: stack.predict(rows), device)}


def figures(material: Material, device: torch.device) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields what was looked at and what was seen, the most important first."""
    sizes = MEMBERS if device.type == "cuda" else REHEARSED
    yield f"CPU and {device}, {sizes[0]} members", agreement(material, device, sizes[0])
    torch.set_num_threads(1)
    yield f"one CPU core, {sizes[0]} members", training(material, CPU, sizes[0])
    for members in sizes:
        yield f"{device}, {members} members", training(material, device, members)
    if device.type == "cuda":
        yield f"waits, {sizes[0]} members", waits(material, device, sizes[0])
    for members in (sizes[0], sizes[-1]):
        yield f"profile, {members} members", profile(material, device, members)
    yield f"scan by {sizes[0]} members", scanning(material, device, sizes[0])
    yield "scan on one CPU core", scanning(material, CPU, sizes[0])


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures belong to."""
    found = {"python": platform.python_version(), "torch": torch.__version__, "device": str(device)}
    if device.type == "cuda":
        found["card"] = torch.cuda.get_device_name(device)
    return found


def main() -> None:
    """Looks at one thing after the other, and writes what was seen so far after each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--minutes", type=float, default=8.0, help="nothing begins after them")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    asked = parser.parse_args()
    device, began = torch.device(asked.device), time.monotonic()
    seen: dict[str, Any] = {"machine": machine(device)}
    for what, found in figures(Material.make(ROWS), device):
        seen[what] = {**found, "done after, seconds": time.monotonic() - began}
        print(json.dumps({what: seen[what]}, indent=1, ensure_ascii=False), flush=True)
        asked.out.write_text(json.dumps(seen, indent=1, ensure_ascii=False), encoding="utf-8")
        if time.monotonic() - began > 60 * asked.minutes:
            print("No time is left for the rest.")
            break


if __name__ == "__main__":
    main()
