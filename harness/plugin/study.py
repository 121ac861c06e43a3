"""How settings are searched for, and what the plugin that makes a study is told."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, field_serializer, model_validator

from harness.errors import BenchmarkError
from harness.plugin.ranges import read_parameter
from harness.plugin.settings import Settings
from harness.redaction import redacted_url

IN_ENVIRONMENT = "env:"
"""What `storage` begins with where it names an environment variable."""

Narrowing = Mapping[str, Any]
"""By parameter: a `Range` as `{ low = …, high = …, log = true, step = … }`, a `Choice` as a list,
or one value, which is then not searched for."""


class SpaceChanges(Settings):
    """What a benchmark changes in the declared search spaces; `false` searches for nothing there.

    Attributes:
        training: parameters of the last stage's training settings.
        backbones, heads, transfers: by name, then by parameter.
    """

    training: Narrowing | Literal[False] = Field(default_factory=dict)
    backbones: Mapping[str, Narrowing | Literal[False]] = {}
    heads: Mapping[str, Narrowing | Literal[False]] = {}
    transfers: Mapping[str, Narrowing | Literal[False]] = {}

    @model_validator(mode="after")
    def _refuse_what_is_no_parameter(self) -> Self:
        changes = {"training": self.training}
        for kind in ("backbones", "heads", "transfers"):
            changes |= {f"{kind}.{name}": own for name, own in getattr(self, kind).items()}
        for table, change in changes.items():
            for name, written in (change or {}).items():
                try:
                    read_parameter(written)
                except ValueError as problem:
                    raise ValueError(
                        f"{table}.{name} = {written!r} is no search space ({problem}): expected "
                        "{ low = …, high = …, log = true }, a list of choices, or one value"
                    ) from None
        return self


class Tuning(Settings):
    """How settings are searched for, the same way for every configuration of a benchmark.

    Attributes:
        trials: settings tried for every configuration, in every run of it.
        selection: `per-run`: run r chooses by its own validation rows alone. `shared`: one setting
            for all runs, by the mean over their validation rows; these hold test rows of other
            runs, so protocols that promise to be leak-free refuse it.
        ensemble: also average the predictions of so many of the best settings; 0: do not.
        batch: trials asked for at once of every search, to be trained side by side.
        shapes: `shared`: what decides whether trials can be trained side by side (the widths of
            layers, the batch size) is drawn at random once for every batch, and the sampler
            proposes the rest; `free`: the sampler proposes everything.
        sampler: `tpe`, `random`, `qmc`, `brute-force` (every combination once, shapes too; all
            parameters need steps or choices), or what a plugin's `make_study` understands.
        pruner: `median`, `hyperband` or `none`; or what a plugin's `make_study` understands.
        report_every: epochs between two looks at the trials in training, to report and to prune.
        storage: URL of a database as `sqlite:///trials.db` or `postgresql://…`; `env:NAME` where
            the environment variable NAME holds it, as for one with a password; the file
            `tuning/journal.log` beside the results where it is absent. A password is never written.
        heartbeat_seconds: in a database, a trial that has not been heard of for three times as
            long is tried again.
        space: what is changed in the search spaces that plugins declare.
    """

    trials: int = Field(default=60, ge=1, le=1_000_000)
    selection: Literal["per-run", "shared"] = "per-run"
    ensemble: int = Field(default=5, ge=0, le=1000)
    batch: int = Field(default=6, ge=1, le=1000)
    shapes: Literal["shared", "free"] = "shared"
    sampler: str = "tpe"
    pruner: str = "median"
    report_every: PositiveInt = 10
    storage: str | None = Field(default=None, repr=False)
    heartbeat_seconds: PositiveFloat = 60.0
    space: SpaceChanges = SpaceChanges()

    @property
    def storage_url(self) -> str | None:
        """The URL of the database, looked up in the environment where it is there.

        Raises:
            BenchmarkError: the variable is not set.
        """
        if self.storage is None or not self.storage.startswith(IN_ENVIRONMENT):
            return self.storage
        name = self.storage.removeprefix(IN_ENVIRONMENT)
        if not (url := os.environ.get(name)):
            raise BenchmarkError(
                f"tuning.storage = {self.storage!r}: the environment variable {name!r} is not set. "
                "It is to hold the URL of the database."
            )
        return url

    @field_serializer("storage")
    def _without_password(self, storage: str | None) -> str | None:
        return None if storage is None else redacted_url(storage)


@dataclass(frozen=True)
class StudyRequest:
    """What is to be searched for.

    Attributes:
        name: of the study; says which configuration and run, and ends with the digest of all that
            a trial depends on.
        direction: `minimize` or `maximize`.
        seed: for what the sampler draws: another one for every trial.
        study_seed: the same for all trials, for a sequence that all of them take their turn in.
        epochs: most that a trial can report, for pruners that want to know.
        tuning: as the benchmark has it.
        folder: where files of the search may lie.
        trial: number of the trial that the study's sampler and pruner are used for, and nothing
            else of it: what is proposed and pruned must follow from the request and from the
            trials that they are shown, or a search that is killed becomes another one. None:
            the study itself is asked for, to hold the trials.
    """

    name: str
    direction: Literal["minimize", "maximize"]
    seed: int
    study_seed: int
    epochs: int
    tuning: Tuning
    folder: Path
    trial: int | None = None
