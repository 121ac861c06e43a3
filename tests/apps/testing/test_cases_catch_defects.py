"""A suite that passes broken plugins is worthless: every defect of a spec is caught."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import Field

from harness import Registry
from harness.apps.testing.runner import run_cases
from harness.plugin import (
    Choice,
    DataError,
    DatasetSpec,
    MetricSpec,
    ParameterGroup,
    ProtocolRules,
    ProtocolSpec,
    Range,
    SearchSpace,
    Settings,
    Split,
    Stage,
    TransferSpec,
    derive_seed,
)
from harness.testing import DatasetCases, MetricCases, ProtocolCases, TransferCases


@dataclass(frozen=True)
class Defect:
    """A defect, the cases that it makes fail (all of them), and what one of them says."""

    spec: Any
    fails: str
    says: str


def check(cases: Any, defect: Defect) -> None:
    broken = failing(cases, defect.spec)
    assert set(broken) == set(defect.fails.split())
    assert any(re.search(defect.says, message) for message in broken.values()), broken


def outcomes(cases: Any, spec: Any) -> dict[str, Any]:
    return {result.name.removeprefix("test_"): result for result in run_cases(cases, spec)}


def failing(cases: Any, spec: Any) -> dict[str, str]:
    results = outcomes(cases, spec).items()
    return {n: r.message for n, r in results if r.outcome in ("failed", "error")}


# --- transfers, and what all kinds with settings promise --------------------------------------


class Toy(Settings):
    """Settings of the good strategy."""

    source: str | None = None
    factor: float = Field(default=0.5, gt=0, le=1)


class Loose(Toy, extra="allow"):
    """Takes any key."""


class Thawed(Toy, frozen=False):
    """May be changed."""


class Needy(Toy):
    """Has a setting without default."""

    depth: int


class Wrong(Toy):
    """Its default is not valid."""

    depth: int = Field(default=0, ge=1, validate_default=True)


class Forgetting(Toy):
    """Leaves a setting out of what is written."""

    depth: int = Field(default=1, exclude=True)


def good_stages(settings: Toy, target: Any) -> Sequence[Stage]:
    if target.dataset == settings.source:
        return ()
    *backbone, _ = target.layers
    groups = tuple(ParameterGroup(prefixes, settings.factor) for prefixes in backbone)
    if settings.source is None:
        return (Stage(target.dataset, "random", groups=groups),)
    return (
        Stage(settings.source, "pretrained", {"epochs": 3}),
        Stage(target.dataset, "previous", freeze=("head",), groups=groups),
    )


def transfer(stages: Any = good_stages, **changes: Any) -> TransferSpec:
    return replace(TransferSpec("toy", "a toy", Toy, stages), **changes)


def one_stage(start: Any = "random", **options: Any) -> TransferSpec:
    """A strategy of one stage on the target, whatever its source."""

    def stages(settings: Any, target: Any) -> Sequence[Stage]:
        if target.dataset == settings.source:
            return ()
        return (Stage(target.dataset, start, **options),)

    return transfer(stages)


CALLS = count()


def growing(settings: Any, target: Any) -> Sequence[Stage]:
    if target.dataset == settings.source:
        return ()
    return (Stage(target.dataset, "random", {"epochs": next(CALLS) + 1}),)


def forgetful(settings: Any, target: Any) -> Sequence[Stage]:
    return (*good_stages(settings, target),) or (Stage(target.dataset, "random"),)


TRANSFERS = {
    "a name with a space": Defect(transfer(name="my toy"), "name_can_be_written", "'my toy'"),
    "a summary of two lines": Defect(
        transfer(summary="one\ntwo"), "summary_is_one_line", "say in a few words"
    ),
    "no summary": Defect(transfer(summary=""), "summary_is_one_line", "Found: ''"),
    "settings that take any key": Defect(
        transfer(settings=Loose),
        "settings_are_a_frozen_model unknown_settings_are_refused",
        "no_such_setting = 1 was taken",
    ),
    "settings that may change": Defect(
        transfer(settings=Thawed), "settings_are_a_frozen_model", "'frozen': False"
    ),
    "a setting without a default": Defect(
        transfer(settings=Needy), "default_settings_are_valid", "depth: Field required"
    ),
    "a default that is not valid": Defect(
        transfer(settings=Wrong), "default_settings_are_valid", "depth: Input should be"
    ),
    "a space beyond what is valid": Defect(
        transfer(space={"factor": Range(0.0, 1.0)}),
        "search_space_gives_valid_settings",
        "factor: Input should be greater than 0",
    ),
    "a space of another setting": Defect(
        transfer(space={"facter": Range(0.1, 1.0)}),
        "search_space_gives_valid_settings",
        "facter: Extra inputs",
    ),
    "a space whose last choice is wrong": Defect(
        transfer(space={"factor": Choice(*np.linspace(0.1, 1, 400).tolist(), 2.0)}),
        "search_space_gives_valid_settings",
        "factor: Input should be less than or equal to 1",
    ),
    "a space that settles wrongly": Defect(
        transfer(
            space=SearchSpace(
                {"tenths": Range(1, 20)},
                lambda values: {"factor": values["tenths"] / 10},
            )
        ),
        "search_space_gives_valid_settings",
        "narrow the ranges",
    ),
    "the first stage starts from previous": Defect(
        one_stage("previous"), "first_stage_starts_from_nothing_before_it", "none before it"
    ),
    "the last stage fits the source": Defect(
        transfer(lambda settings, target: good_stages(settings, target)[:1]),
        "last_stage_fits_the_target",
        r"stages on \['SourceData'\]",
    ),
    "no stages at all": Defect(
        transfer(lambda settings, target: ()),
        "last_stage_fits_the_target first_stage_starts_from_nothing_before_it "
        "training_settings_are_valid prefixes_name_layers something_is_left_to_train "
        "groups_do_not_overlap datasets_alongside_are_others "
        "stages_depend_on_their_arguments_alone",
        "which is not the strategy's source",
    ),
    "a misspelt training setting": Defect(
        one_stage(training={"epoch": 3}), "training_settings_are_valid", "epoch: Extra inputs"
    ),
    "a layer that only one model has": Defect(
        one_stage(freeze=("backbone.block1",)), "prefixes_name_layers", "'backbone.block1' for"
    ),
    "everything frozen": Defect(
        one_stage(freeze=("backbone", "head")), "something_is_left_to_train", "freeze less"
    ),
    "a group that is frozen": Defect(
        one_stage(freeze=("backbone",), groups=(ParameterGroup(("backbone",), 0.1),)),
        "something_is_left_to_train",
        "leave the group out",
    ),
    "a parameter in two groups": Defect(
        transfer(
            lambda settings, target: (
                (
                    Stage(
                        target.dataset,
                        "random",
                        groups=(ParameterGroup(("backbone",)), ParameterGroup(target.layers[0])),
                    ),
                )
                if target.dataset != settings.source
                else ()
            )
        ),
        "groups_do_not_overlap",
        "give every layer to one group",
    ),
    "the target alongside itself": Defect(
        transfer(
            lambda settings, target: (
                (Stage(target.dataset, "random", alongside={target.dataset: 1.0}),)
                if target.dataset != settings.source
                else ()
            )
        ),
        "datasets_alongside_are_others",
        "in its own `alongside`",
    ),
    "a negative weight": Defect(
        one_stage(alongside={"Other": -1.0}), "datasets_alongside_are_others", "positive and finite"
    ),
    "stages for its own source": Defect(
        transfer(forgetful), "own_source_has_no_stages", r"return \(\) where"
    ),
    "stages that count calls": Defect(
        transfer(growing), "stages_depend_on_their_arguments_alone", "keep no state"
    ),
}


@pytest.mark.parametrize("defect", TRANSFERS.values(), ids=TRANSFERS)
def test_a_defect_of_a_strategy_or_its_settings_is_caught(defect: Defect) -> None:
    check(TransferCases(), defect)


def test_settings_that_do_not_come_back_are_caught() -> None:
    cases = TransferCases()
    cases.settings = {"depth": 3}
    broken = failing(cases, transfer(settings=Forgetting))
    assert set(broken) == {"settings_survive_json"}
    assert "depth=3" in broken["settings_survive_json"]


def test_a_good_strategy_passes() -> None:
    results = outcomes(TransferCases(), transfer(space={"factor": Range(0.1, 1.0)}))
    assert {result.outcome for result in results.values()} == {"passed"}


def test_text_that_leads_nowhere_is_caught() -> None:
    broken = failing(TransferCases(), transfer(stages="no_such_module:stages"))
    assert "there is no module 'no_such_module'" in broken["functions_given_as_text_exist"]


def test_a_setting_without_a_default_can_be_given() -> None:
    cases = TransferCases()
    cases.settings = {"depth": 3}
    assert failing(cases, transfer(settings=Needy)) == {}


def test_a_spec_of_another_kind_is_caught() -> None:
    broken = failing(TransferCases(), metric(lambda targets, predictions: 0.0))
    assert "the spec is a TransferSpec" in broken["spec_is_frozen_data"]


def test_a_spec_that_can_be_changed_is_caught() -> None:
    class Changeable(TransferSpec):
        """A subclass that takes the lock off."""

        __setattr__ = object.__setattr__

    spec = Changeable("toy", "a toy", Toy, good_stages)
    assert "whose fields can be set" in failing(TransferCases(), spec)["spec_is_frozen_data"]


# --- metrics ----------------------------------------------------------------------------------


def mae_log(targets: Any, predictions: Any) -> float:
    if not len(targets):
        return float("nan")
    return float(np.mean(np.abs(np.log10(predictions) - np.log10(targets))))


def metric(function: Callable[..., Any] = mae_log, **changes: Any) -> MetricSpec:
    return replace(MetricSpec("toy", "a toy", "decades", False, function), **changes)


def in_place(targets: Any, predictions: Any) -> float:
    value = mae_log(targets, predictions)
    predictions *= 1.001
    return value


def lagged(targets: Any, predictions: Any) -> float:
    if len(targets) < 2:
        return float("nan")
    errors = np.abs(np.log10(predictions / targets))
    return float(np.mean(errors * np.arange(1, len(errors) + 1)))


def signed(targets: Any, predictions: Any) -> float:
    return float(np.mean(np.log10(predictions / targets))) if len(targets) else float("nan")


METRICS = {
    "the wrong direction": Defect(
        metric(higher_is_better=True),
        "perfect_predictions_are_best worse_predictions_are_worse",
        "turn `higher_is_better` round",
    ),
    "an error with its sign": Defect(
        metric(signed),
        "perfect_predictions_are_best worse_predictions_are_worse",
        "which is better, for predictions off",
    ),
    "a constant": Defect(
        metric(lambda targets, predictions: 1.0),
        "worse_predictions_are_worse",
        "higher values for larger errors",
    ),
    "an array": Defect(
        metric(lambda targets, predictions: np.abs(predictions - targets)),
        "value_is_one_number perfect_predictions_are_best worse_predictions_are_worse "
        "order_of_rows_does_not_matter inputs_are_left_alone few_rows_are_no_error",
        "a ndarray",
    ),
    "NaN": Defect(
        metric(lambda targets, predictions: float("nan")),
        "value_is_one_number perfect_predictions_are_best worse_predictions_are_worse "
        "order_of_rows_does_not_matter",
        "ordinary predictions have a finite value",
    ),
    "the order of rows matters": Defect(
        metric(lagged), "order_of_rows_does_not_matter", "in another order"
    ),
    "changed inputs": Defect(
        metric(in_place), "inputs_are_left_alone order_of_rows_does_not_matter", "work on copies"
    ),
    "an error without rows": Defect(
        metric(lambda targets, predictions: float(max(abs(np.log10(predictions / targets))))),
        "few_rows_are_no_error",
        r"0 row\(s\) raised ValueError",
    ),
    "a direction in words": Defect(
        metric(higher_is_better="no"),
        "unit_and_direction_are_declared perfect_predictions_are_best worse_predictions_are_worse",
        "`higher_is_better` a boolean",
    ),
    "no title": Defect(metric(title=""), "summary_is_one_line", "say in a few words"),
}


@pytest.mark.parametrize("defect", METRICS.values(), ids=METRICS)
def test_a_defect_of_a_metric_is_caught(defect: Defect) -> None:
    check(MetricCases(), defect)


def test_a_value_that_is_not_the_known_one_is_caught() -> None:
    cases = MetricCases()
    cases.known_values = [([1.0, 10.0], [10.0, 10.0], 0.5), ([1.0], [10.0], 1.001)]
    broken = failing(cases, metric())
    assert set(broken) == {"known_values"}
    assert "1.001 for targets [1.0]" in broken["known_values"]


def test_a_good_metric_passes() -> None:
    cases = MetricCases()
    cases.known_values = [([1.0, 10.0], [10.0, 10.0], 0.5)]
    assert {result.outcome for result in outcomes(cases, metric()).values()} == {"passed"}


# --- protocols --------------------------------------------------------------------------------


class Rules(ProtocolRules):
    """A good protocol: formulas are kept whole, 60/20/20 of them."""

    leak_free = True
    selection = "mae-log"
    offset = 0.0
    scaler_stage = "last"

    def __init__(self, settings: Settings) -> None:
        pass

    def split(self, formulas: Sequence[str], run: int, seed: int) -> Split:
        order = sorted(set(formulas), key=lambda formula: self.draw(seed, formula))
        side = {formula: min(2, 5 * n // len(order) // 2) for n, formula in enumerate(order)}
        side |= dict.fromkeys(order[3 * len(order) // 5 : 4 * len(order) // 5], 1)
        of_row = np.array([side[formula] for formula in formulas])
        return Split(*(self.rows_of(of_row, number) for number in range(3)))

    def draw(self, seed: int, formula: str) -> float:
        return derive_seed(seed, formula)

    def rows_of(self, side: Any, number: int) -> Any:
        return np.flatnonzero(np.minimum(side, 2) == number)

    def scaler_rows(self, split: Split) -> Any:
        return split.train


class ByRow(Rules):
    """Splits rows, not formulas."""

    def split(self, formulas: Sequence[str], run: int, seed: int) -> Split:
        order = np.random.default_rng(seed).permutation(len(formulas))
        return Split(*np.split(order, [len(order) // 2, 3 * len(order) // 4]))


def protocol(parent: type[Rules] = Rules, **changes: Any) -> ProtocolSpec:
    return ProtocolSpec("toy", "a toy", Settings, type("Changed", (parent,), changes))


def overlapping(self: Any, formulas: Sequence[str], run: int, seed: int) -> Split:
    split = Rules.split(self, formulas, run, seed)
    return Split(np.append(split.train, split.test[0]), split.validation, split.test)


def validating_on_test(self: Any, formulas: Sequence[str], run: int, seed: int) -> Split:
    split = Rules.split(self, formulas, run, seed)
    return Split(split.train, split.test, split.test)


def beyond(self: Any, formulas: Sequence[str], run: int, seed: int) -> Split:
    split = Rules.split(self, formulas, run, seed)
    return Split(split.train, split.validation, np.append(split.test, len(formulas)))


def refusing(self: Any, formulas: Sequence[str], run: int, seed: int) -> Split:
    raise DataError("too few")


ALL_SPLITS = (
    "sides_hold_row_positions sides_are_disjoint groups_stay_whole "
    "split_depends_on_its_arguments_alone runs_differ scaler_sees_what_it_may"
)

PROTOCOLS = {
    "overlapping sides": Defect(
        protocol(split=overlapping),
        "sides_are_disjoint groups_stay_whole",
        "no row is a train and a test row",
    ),
    "validation rows are test rows": Defect(
        protocol(split=validating_on_test),
        "sides_are_disjoint groups_stay_whole",
        "no row is a validation and a test row",
    ),
    "twins on two sides": Defect(protocol(ByRow), "groups_stay_whole", "split groups, not rows"),
    "rows beyond the list": Defect(
        protocol(split=beyond),
        "sides_hold_row_positions groups_stay_whole",
        r"positions in \[0, 40\)",
    ),
    "an empty side": Defect(
        protocol(rows_of=lambda self, side, n: np.flatnonzero((side == n) & (n != 1))),
        "sides_hold_row_positions",
        "there are validation rows",
    ),
    "masks in place of positions": Defect(
        protocol(rows_of=lambda self, side, n: np.minimum(side, 2) == n),
        "sides_hold_row_positions sides_are_disjoint groups_stay_whole",
        "np.flatnonzero",
    ),
    "global random numbers": Defect(
        protocol(draw=lambda self, seed, formula: np.random.rand()),
        "split_depends_on_its_arguments_alone",
        "not from global generators",
    ),
    "one split for all runs": Defect(
        protocol(draw=lambda self, seed, formula: derive_seed(0, formula)),
        "runs_differ",
        "runs 1, 2, 3 of 40 rows are split alike",
    ),
    "a split that is no Split": Defect(
        protocol(split=lambda self, formulas, run, seed: (formulas[:30], formulas[30:])),
        ALL_SPLITS,
        "returns a Split",
    ),
    "refusing an ordinary dataset": Defect(
        protocol(split=refusing), ALL_SPLITS, "refuse only datasets too small"
    ),
    "a scaler that sees test rows": Defect(
        protocol(scaler_rows=lambda self, split: np.append(split.train, split.test)),
        "scaler_sees_what_it_may",
        "return split.train",
    ),
    "labels that are not true": Defect(
        protocol(labels=lambda self, kappa, own, decoder: decoder.decode(own.encode(kappa))),
        "labels_are_true",
        "off by up to a factor",
    ),
    "labels in place": Defect(
        protocol(labels=lambda self, kappa, own, decoder: np.multiply(kappa, 1.1, out=kappa)),
        "labels_are_true",
        "κ itself is left as it is",
    ),
    "an unknown metric": Defect(
        protocol(selection="mae_log"), "selection_is_a_metric", "Did you mean 'mae-log'"
    ),
    "a negative offset": Defect(protocol(offset=-1.0), "rules_are_declared", "zero or more"),
    "an unknown scaler stage": Defect(
        protocol(scaler_stage="middle"), "rules_are_declared", "'first' or 'last'"
    ),
}


@pytest.mark.parametrize("defect", PROTOCOLS.values(), ids=PROTOCOLS)
def test_a_defect_of_a_protocol_is_caught(defect: Defect) -> None:
    check(ProtocolCases(), defect)


@pytest.mark.parametrize(
    "spec",
    [
        protocol(),
        protocol(ByRow, leak_free=False),
        protocol(leak_free=False, split=validating_on_test),
    ],
    ids=["leak-free", "by row", "validating on test rows"],
)
def test_a_good_protocol_passes(spec: ProtocolSpec) -> None:
    assert failing(ProtocolCases(), spec) == {}


# --- datasets ---------------------------------------------------------------------------------

CARD = """
title = "A toy"
unit = "W/(m·K)"
licence = "none"
rows = 4
"""


def rows(**changes: Any) -> list[Mapping[str, Any]]:
    """Four rows, the last one changed."""
    good = [
        {
            "id": f"row-{number}",
            "kappa": 10.0 * number,
            "lattice": (np.eye(3) * (4.0 + number / 10)).tolist(),
            "species": ["Na", "Cl"],
            "frac_coords": [[0, 0, 0], [0.5, 0.5, 0.5]],
        }
        for number in range(1, 5)
    ]
    return [*good[:3], {**good[3], **changes}]


@pytest.fixture
def dataset(tmp_path: Path) -> Callable[..., DatasetSpec]:
    def make(load: Any = rows, card: str = CARD, **changes: Any) -> DatasetSpec:
        path = tmp_path / "card.toml"
        path.write_text(card)
        given = load if load is None or callable(load) else lambda: load
        loader = None if given is None else lambda locations: given()
        return replace(DatasetSpec("Toy", path, loader), **changes)

    return make


SHUFFLED = np.random.default_rng(0)
NANOMETRES = (np.eye(3) * 0.4).tolist()

DATASETS: dict[str, tuple[dict[str, Any], str, str]] = {
    "an id twice": (
        {"load": rows(id="row-1")},
        "ids_are_unique rows_can_be_used",
        "missing or repeated: row-1",
    ),
    "no id": (
        {"load": rows(id="")},
        "ids_are_unique rows_can_be_used",
        r"missing or repeated: \(none\)",
    ),
    "a row that cannot be used": (
        {"load": rows(species=["Na", "Xx"])},
        "rows_can_be_used",
        r"row 4 \(row-4\): unknown element 'Xx'",
    ),
    "a target below zero": (
        {"load": rows(kappa=-1.0)},
        "rows_can_be_used targets_are_plausible",
        r"1 of 4 targets outside, as \[-1.0\]",
    ),
    "a target that is infinite": (
        {"load": rows(kappa=float("inf"))},
        "rows_can_be_used targets_are_plausible",
        "see whether card and rows agree",
    ),
    "another key": (
        {"card": CARD + 'target = "lambda"'},
        "rows_can_be_used targets_are_plausible",
        "no lambda",
    ),
    "the wrong unit": (
        {"card": CARD.replace("W/", "mW/"), "load": rows(kappa=0.02)},
        "rows_can_be_used targets_are_plausible",
        "is κ in mW",
    ),
    "nanometres": (
        {"load": rows(lattice=NANOMETRES)},
        "rows_can_be_used",
        "is the lattice in Å?",
    ),
    "a site twice": (
        {"load": rows(frac_coords=[[0, 0, 0], [1.0, 0, 0.01]])},
        "rows_can_be_used",
        "cannot be on one spot",
    ),
    "more rows than the card says": (
        {"card": CARD.replace("rows = 4", "rows = 3")},
        "rows_are_not_more_than_the_card_says",
        "4 rows",
    ),
    "rows in another order every time": (
        {"load": lambda: [rows()[n] for n in SHUFFLED.permutation(4)]},
        "loading_twice_gives_the_same",
        "two loads have different digests",
    ),
    "rows and parts": (
        {"parts": ("Tetrahedral", "Rocksalt")},
        "rows_come_from_one_place parts_make_up_the_whole",
        "exactly one of",
    ),
    "neither rows nor parts": (
        {"load": None},
        "rows_come_from_one_place",
        "Found: neither",
    ),
}


@pytest.mark.parametrize(("changes", "fails", "says"), DATASETS.values(), ids=DATASETS)
def test_a_defect_of_a_dataset_is_caught(
    dataset: Callable[..., DatasetSpec], changes: dict[str, Any], fails: str, says: str
) -> None:
    check(DatasetCases(), Defect(dataset(**changes), fails, says))


def test_a_card_that_cannot_be_read_is_caught(dataset: Callable[..., DatasetSpec]) -> None:
    broken = failing(DatasetCases(), dataset(card=CARD + 'colour = "red"'))
    assert "colour" in broken["card_is_valid"]


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        (("Tetrahedral", "Cubic"), "unknown: Cubic"),
        (("Tetrahedral", "Experiment"), "name every part once"),
    ],
)
def test_a_defect_of_the_parts_is_caught(
    dataset: Callable[..., DatasetSpec], parts: tuple[str, ...], says: str
) -> None:
    broken = failing(DatasetCases(), dataset(load=None, card=CARD.replace("4", "99"), parts=parts))
    assert says in broken["parts_make_up_the_whole"]


def test_rows_that_are_not_on_this_machine_are_a_skip(
    dataset: Callable[..., DatasetSpec],
) -> None:
    def load() -> Iterator[Mapping[str, Any]]:
        raise DataError("not found: fetch it")

    results = outcomes(DatasetCases(), dataset(load=load))
    assert failing(DatasetCases(), dataset(load=load)) == {}
    assert "fetch it" in results["ids_are_unique"].message
    assert results["ids_are_unique"].outcome == "skipped"


def test_a_good_dataset_passes_and_tells_of_the_rows_that_it_loses(
    dataset: Callable[..., DatasetSpec],
) -> None:
    assert failing(DatasetCases(), dataset()) == {}
    cases = DatasetCases()
    cases.usable_share = 0.7
    result = outcomes(cases, dataset(load=rows(species=["Na", "Xx"])))["rows_can_be_used"]
    assert result.outcome == "passed"
    assert "1 of 4 rows cannot be used; row 4 (row-4): unknown element 'Xx'" in result.message


def test_names_are_looked_up_in_the_registry_that_is_given(
    dataset: Callable[..., DatasetSpec], tiny: Path
) -> None:
    cases = DatasetCases()
    cases.registry = Registry([tiny])
    assert failing(cases, cases.registry.datasets["ToyAndTwins"]) == {}
