"""The benchmark file: what to train, on what to test it, and how. Unknown keys are refused."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    create_model,
    model_serializer,
)

from harness.errors import BenchmarkError, did_you_mean
from harness.planning.chosen_settings import Chosen
from harness.planning.component_ref import ComponentRef, Components, OneComponent
from harness.planning.training_settings import TrainingSettings, loss_of
from harness.plugin.locations import shipped
from harness.plugin.property import PropertySpec, Scale
from harness.plugin.settings import Settings
from harness.plugin.study import Tuning
from harness.reading import UNREADABLE, parse_toml, read_text
from harness.redaction import redacted
from harness.scoring.averages import Weighting


def _as_names(value: Any) -> Any:
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return value
    raise ValueError("expected a list of names")


Names = Annotated[tuple[str, ...], BeforeValidator(_as_names), Field(min_length=1)]


def _check_plugin_file(name: str) -> str:
    if not name.endswith(".py") or Path(name).is_absolute() or not name.isprintable():
        raise ValueError("expected Python files, relative to the benchmark file")
    return name


PluginFiles = tuple[Annotated[str, AfterValidator(_check_plugin_file)], ...]


class Baseline(Settings):
    """A backbone with a head; of a baseline, which every model must beat, a closed-form one.

    Attributes:
        backbone: what the head sees of a crystal.
        head: what is fitted.
    """

    backbone: OneComponent = ComponentRef(name="composition")
    head: OneComponent


class Model(Baseline):
    """A backbone with a head, and how it is carried over and trained where that is its own way.

    Attributes:
        transfers: in place of the benchmark's.
        training: settings that differ for it, of every stage.
        training_on: settings that differ for its stages that fit the named dataset.
    """

    transfers: Components | None = None
    training: Mapping[str, Any] = {}
    training_on: Mapping[str, Mapping[str, Any]] = {}

    def training_for(self, dataset: str) -> dict[str, Any]:
        """Training settings of its own for stages that fit a dataset."""
        return {**self.training, **self.training_on.get(dataset, {})}

    @model_serializer(mode="wrap")
    def _without_what_is_not_given(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        own = ("transfers", "training", "training_on")
        return {key: value for key, value in written.items() if value or key not in own}


class Committee(Settings):
    """The mean of several configurations: of what they predict, run by run and row by row.

    By `precision`, a member counts for a row by the inverse of the variance that it gives there.

    Attributes:
        label: what it is called in tables.
        of: its members, by their labels or by what tells them apart, as
            `"backbone=descriptors, head=gp"`.
        weighting: how they count; `precision` asks for heads that give a standard deviation.
    """

    label: str = Field(min_length=1)
    of: tuple[str, ...] = Field(min_length=2)
    # Not mentioned where it is what it was before there was another: plans stay as they are.
    weighting: Weighting = Field(default="equal", exclude_if=lambda own: own == "equal")


def default_baselines(spec: PropertySpec) -> tuple[Baseline, ...]:
    """Returns the trivial models that every benchmark of a property is held against."""
    constant = {"name": "best-constant", "metric": spec.metric}
    return (
        Baseline(head=ComponentRef.model_validate(constant)),
        Baseline(head=ComponentRef(name="mean-log" if spec.is_log else "mean")),
        Baseline(head=ComponentRef(name="nearest")),
    )


BENCHMARK_FILE = "benchmark.toml"
LONGEST_FILE = 16 * 2**20
"""Most letters of a benchmark file; one with thousands of chosen settings has a million."""
MOST_RUNS = 10_000
DEFAULT_METRICS: Mapping[Scale, tuple[str, ...]] = {
    "log": ("mae-log", "rmse-log", "spearman", "mape", "median-ape", "mae", "r2-log"),
    "linear": ("mae", "rmse", "spearman", "r2"),
}
"""By the scale of the property, whose own metric goes before them."""


LATER_FIELDS: Mapping[str, Any] = {
    **dict.fromkeys(("plugins", "models", "committees"), ()),
    "labels": {},
    "finding": "",
    "order": None,
    "stack_members": None,
}
"""Of a benchmark, that the plans of older ones do not have, with what stands for nothing."""


class Benchmark(Settings):
    """One benchmark file.

    Attributes:
        name: names the leaderboard.
        title, summary: shown above its tables.
        finding: what came out, in a sentence; told by the statistics where it is not written.
        order: place among leaderboards that are shown together, the least first; those without
            come after, by name.
        train_on, test_on: datasets, the rows and columns of the matrix.
        backbones, heads, transfers, protocols: every combination is a configuration.
        models: pairs of a backbone and a head beside those combinations; carried over and trained
            like these, or as each says.
        committees: means of several configurations.
        labels: short names of configurations, each with what it names, as
            `"GP on descriptors" = "backbone=descriptors, head=gp"`; of the others, one is made.
        baselines: closed-form models trained on every dataset of `train_on`; the trivial ones of
            the property unless given, none if empty.
        runs: run numbers 1 … runs; each is one seed and one split.
        seed: the root seed from which every other is derived.
        metrics: the first is the one shown by default; those of the property unless given.
        training: settings of every stage.
        training_on: settings that differ for stages that fit the named dataset.
        tuning: how to search for better settings; nothing is tuned where it is absent.
        chosen: settings that a search has found, run by run, as in the `best.toml` that it leaves.
        device: `auto`, `cpu` or `cuda`.
        stack_members: how many members are trained side by side at most, of several stages where
            these share shape (model, steps of an epoch, what is trained); every stage is alone
            unless given, or where it has more. Members come out the same but for rounding, and
            for what `torch.nn.Dropout` draws. There is then less to share among processes.
        published: a CSV of published cells to show beside ours, with columns `transfer`,
            `train_on`, `test_on`, `metric`, `mean`, `std`; relative to the benchmark file.
        plugins: Python files with plugins of this benchmark, relative to the benchmark file. They
            are loaded where it is run, and where its results are read by who has run it.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    title: str = ""
    summary: str = ""
    finding: str = ""
    order: int | None = None
    train_on: Names
    test_on: Names
    backbones: Components = (ComponentRef(name="megnet"),)
    heads: Components = (ComponentRef(name="mlp"),)
    transfers: Components = (ComponentRef(name="scratch"),)
    protocols: Components = (ComponentRef(name="strict"),)
    models: tuple[Model, ...] = ()
    committees: tuple[Committee, ...] = ()
    labels: Mapping[str, str] = {}
    baselines: tuple[Baseline, ...] | None = None
    runs: int = Field(default=9, ge=1, le=MOST_RUNS)
    seed: int = Field(default=0, ge=-(2**63), lt=2**63)
    metrics: Names | None = None
    training: TrainingSettings = TrainingSettings()
    training_on: Mapping[str, Mapping[str, Any]] = {}
    tuning: Tuning | None = None
    chosen: tuple[Chosen, ...] = ()
    device: Literal["auto", "cpu", "cuda"] = "auto"
    stack_members: int | None = Field(default=None, ge=1)
    published: str | None = None
    plugins: PluginFiles = ()

    @property
    def unset(self) -> set[str]:
        """Fields that are not written: results of benchmarks that lack them stay as ever."""
        return {name for name, nothing in LATER_FIELDS.items() if getattr(self, name) == nothing}

    def of_property(self, spec: PropertySpec) -> Benchmark:
        """Returns the benchmark with what the file leaves to the property filled in."""
        loss = self.training.loss or loss_of(spec)
        defaults = dict.fromkeys((spec.metric, *DEFAULT_METRICS[spec.scale]))
        own = default_baselines(spec) if self.baselines is None else self.baselines
        return self.model_copy(
            update={
                "training": self.training.model_copy(update={"loss": loss}),
                "metrics": self.metrics or tuple(defaults),
                "baselines": own,
            }
        )

    def training_for(self, dataset: str, overrides: Mapping[str, Any]) -> TrainingSettings:
        """Training settings of a stage: the file's, then the dataset's, then the strategy's own."""
        merged = {**self.training.model_dump(), **self.training_on.get(dataset, {}), **overrides}
        settings: TrainingSettings = check_settings(
            TrainingSettings, merged, f"training settings for {dataset}"
        )
        return settings

    @classmethod
    def load(cls, source: str | Path, overrides: Sequence[str] = ()) -> Benchmark:
        """Reads a benchmark file.

        Args:
            source: a path, or the name of a leaderboard (`quickstart`); see `find_benchmark`.
            overrides: `key.subkey=value` in TOML syntax, applied before checking.

        Raises:
            BenchmarkError: missing, malformed, or with an unknown key or wrong value; the message
                names file, line and key, or the override.
        """
        path = find_benchmark(source)
        text, raw = _read(path)
        origin = _Origin(path, text, tuple(apply_override(raw, text) for text in overrides))
        raw.setdefault("name", _name_of(path.resolve()))
        benchmark: Benchmark = origin.check(cls, raw)
        for place, changes in benchmark.training_changes():
            origin.check(TrainingSettings, changes, place)
        return benchmark

    def training_changes(self) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
        """Yields settings that differ from `training` somewhere, with the tables they stand in."""
        for dataset, changes in self.training_on.items():
            yield ("training_on", dataset), changes
        for place, model in enumerate(self.models):
            yield ("models", str(place), "training"), model.training
            for dataset, changes in model.training_on.items():
                yield ("models", str(place), "training_on", dataset), changes


def read_fields(path: Path, names: Iterable[str]) -> dict[str, Any]:
    """Reads some fields of a benchmark file, and looks at no other.

    Raises:
        BenchmarkError: malformed, or one of them has a wrong value.
    """
    text, raw = _read(path)
    fields: dict[str, Any] = {
        name: (Benchmark.model_fields[name].annotation, Benchmark.model_fields[name])
        for name in names
    }
    model = create_model("Fields", __base__=Settings, **fields)
    given = {name: raw[name] for name in fields if name in raw}
    found: dict[str, Any] = _Origin(path, text, ()).check(model, given).model_dump()
    return found


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = read_text(path, LONGEST_FILE, strict=True)
        return text, parse_toml(text)
    except UNREADABLE as problem:
        raise BenchmarkError(f"{path}: not valid TOML in UTF-8: {problem}") from None


def _name_of(path: Path) -> str:
    """A leaderboard is named after its folder, or after a file that is not `benchmark.toml`."""
    name = path.parent.name if path.name == BENCHMARK_FILE else path.stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._") or "benchmark"


def find_benchmark(source: str | Path) -> Path:
    """Returns the path of a benchmark file.

    A path is taken as it is (for a folder, its `benchmark.toml`); a bare name is looked for in
    `./leaderboards/`, then among the benchmarks shipped with the package.
    """
    path = Path(source)
    candidates = [path, path / "benchmark.toml"]
    if len(path.parts) == 1:
        relative = f"leaderboards/{source}/benchmark.toml"
        candidates += [Path(relative), shipped(relative)]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    looked = ", ".join(str(candidate) for candidate in candidates)
    raise BenchmarkError(
        f"No benchmark {str(source)!r}. Looked for: {looked}. "
        "Give the path of a benchmark.toml, or the name of a shipped one: quickstart, paraisite. "
        "The leaderboards that the README tells of (strict and others) come with the repository, "
        "not with the package: name them in a checkout of it."
    )


def check_settings(
    model: type[Any], values: Mapping[str, Any], who: str, context: object = None
) -> Any:
    """Validates settings against a model; `context` is for validators of its own.

    Raises:
        BenchmarkError: an unknown key (the known ones are listed) or a wrong value.
    """
    try:
        return model.model_validate(dict(values), context=context)
    except ValidationError as problem:
        lines = [f"{who}: {explain(error, model)}" for error in problem.errors()]
        raise BenchmarkError("\n".join(lines)) from None


def apply_override(raw: dict[str, Any], override: str) -> tuple[str, ...]:
    """Changes raw settings as `override` says; returns the path of the key it sets."""
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise BenchmarkError(f"--set {override!r}: expected key=value, as in training.epochs=10.")
    try:
        parsed = parse_toml(f"value = {value}")["value"]
    except ValueError:
        parsed = value.strip()
    *folders, last = key.strip().split(".")
    target = raw
    for folder in folders:
        target = target.setdefault(folder, {})
        if not isinstance(target, dict):
            raise BenchmarkError(f"--set {override!r}: {folder!r} is not a table.")
    target[last] = parsed
    return (*folders, last)


@dataclass(frozen=True)
class _Origin:
    """Where settings came from: a file, and the keys that overrides set in it."""

    path: Path
    text: str
    overridden: tuple[tuple[str, ...], ...]

    def check(self, model: type[Any], values: Any, table: tuple[str, ...] = ()) -> Any:
        """Validates the settings of a table; blames the file's line, or the override."""
        try:
            return model.model_validate(values)
        except ValidationError as problem:
            lines = []
            for error in problem.errors():
                location = (*table, *map(str, error["loc"]))
                lines.append(f"{self._where(location)}: {explain(error, model, table)}")
            raise BenchmarkError("\n".join(lines)) from None

    def _where(self, location: tuple[str, ...]) -> str:
        for key in reversed(self.overridden):
            if location[: len(key)] == key:
                return f"--set {'.'.join(key)}"
        paths = (location[:end] for end in range(len(location), 0, -1))
        number = next(filter(None, (_line_of(path, self.text) for path in paths)), None)
        return f"{self.path}, line {number}" if number else f"{self.path}"


_EXPECTED = {
    "tuple_type": "a list",
    "model_type": "a table",
    "dict_type": "a table",
    "string_type": "text in quotes",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "too_short": "at least one entry",
}
"""What is expected, by pydantic's types of errors, in the words of a TOML file."""

LONGEST_SHOWN = 1000
"""Characters of a wrong value that a message shows; of a longer one the key must do."""


def explain(error: Any, model: type[BaseModel], table: Sequence[str] = ()) -> str:
    """Returns an error of pydantic in words, with the key, what is expected and what is there."""
    location = [str(part) for part in error["loc"]]
    dotted = ".".join((*table, *location))
    if error["type"] == "extra_forbidden":
        known = _fields_at(model, location[:-1])
        return f"unknown key {dotted!r}.{did_you_mean(location[-1], known)}"
    if error["type"] == "missing":
        return f"the key {dotted!r} is missing."
    if error["type"] in _EXPECTED:
        text = f"expected {_EXPECTED[error['type']]}"
    else:
        text = error["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    if not dotted:  # the whole of it: no JSON, say
        return text
    given = redacted(repr(error["input"]))
    return (
        f"{dotted}: {text} (got {given})." if len(given) <= LONGEST_SHOWN else f"{dotted}: {text}."
    )


def _fields_at(model: type[BaseModel], location: Sequence[str]) -> list[str]:
    for part in location:
        field = model.model_fields.get(part)
        if field is None:
            break
        kinds = (field.annotation, *get_args(field.annotation))  # of `Tuning | None` too
        models = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        model = models[0] if models else model
    return list(model.model_fields)


def _line_of(location: Sequence[str], text: str) -> int | None:
    """Finds the line on which a key stands; tomllib does not tell."""
    tables = [part for part in location[:-1] if not part.isdigit()]
    in_table = not tables
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*\[\[?\s*([^\]]+?)\s*\]", line)
        if header:
            in_table = [p.strip("\"' ") for p in header[1].split(".")] == tables
        elif in_table and re.match(rf"\s*[\"']?{re.escape(location[-1])}[\"']?\s*=", line):
            return number
    return None


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns settings by dotted key, as `training.epochs`."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= flatten(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
