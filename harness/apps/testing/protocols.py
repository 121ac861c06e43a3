"""Cases of protocols: what a split may do with rows, and what the rules say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from harness.apps.testing.cases import SettingsCases
from harness.apps.testing.crystals import binary_crystal
from harness.apps.testing.promises import broken, promise, skip
from harness.apps.testing.randomness import global_seed
from harness.errors import BenchmarkError, DataError, did_you_mean
from harness.plugin.protocol import BenchmarkRows, ProtocolRules, ProtocolSpec, Scaler, Split

if TYPE_CHECKING:
    from harness.plugin.arrays import Floats, Indices

SIDES = ("train", "validation", "test")
RUNS = (1, 2, 3)
LISTS = ((40, 40), (60, 20), (101, 25), (300, 60))
"""(rows, formulas) of the lists of rows to split; where rows are more, there are twins."""

MOST_RUNS = 12
METALS = ("Li", "Na", "K", "Mg", "Ca", "Zn", "Ga", "Al")
OTHERS = ("O", "S", "Se", "F", "Cl", "Br", "N", "P")


class ProtocolCases(SettingsCases):
    """What a protocol promises."""

    spec_type = ProtocolSpec

    def test_rules_are_declared(self, spec: ProtocolSpec) -> None:
        """Promise, scaler and view are what the core can work with."""
        rules = self._rules(spec)
        promise(
            isinstance(rules, ProtocolRules)
            and isinstance(rules.leak_free, bool)
            and rules.scaler_stage in ("first", "last")
            and isinstance(rules.view, str),
            "ProtocolRules with a boolean `leak_free`, `scaler_stage` 'first' or 'last', and text "
            "as `view`",
            f"{type(rules).__name__} with {[getattr(rules, a, None) for a in _RULES]}",
            "declare them as class attributes",
        )
        promise(
            isinstance(rules.offset, int | float) and 0 <= rules.offset < np.inf,
            "`offset` of the logarithm is zero or more, in W/(m·K)",
            repr(rules.offset),
            "use 0.0; the published study used 1.0",
        )

    def test_selection_is_a_metric(self, spec: ProtocolSpec) -> None:
        """The metric that chooses the epoch exists."""
        selection, metrics = self._rules(spec).selection, self._registry().metrics
        if selection is not None and selection not in metrics:
            broken(
                "`selection` names a registered metric, or is None: the property's own",
                f"{selection!r}.{did_you_mean(str(selection), metrics)}",
                "name one of these, or install the plugin that offers it",
            )

    def test_groups_keep_twins_together(self, spec: ProtocolSpec) -> None:
        """Every row has the name of a group, or none; if leak-free, twins share theirs."""
        rules = self._rules(spec)
        for rows in _lists():
            for run in RUNS:
                groups = list(rules.group(rows, run))
                named = all(name is None or isinstance(name, str) for name in groups)
                promise(
                    len(groups) == len(rows.formulas) and named,
                    "`group` gives one name per row, None for a row without a role",
                    f"{len(groups)} for {len(rows.formulas)} rows in run {run}: {groups[:5]}",
                    "return a list as long as rows.formulas",
                )
                pairs = {(f, g) for f, g in zip(rows.formulas, groups, strict=True) if g}
                promise(
                    not rules.leak_free or len(pairs) == len({formula for formula, _ in pairs}),
                    "a leak-free protocol has rows of one reduced formula in one group",
                    f"some are in several in run {run}",
                    "give the rows that are in the way None, or set leak_free = False",
                )

    def test_runs_are_named(self, spec: ProtocolSpec) -> None:
        """Some number of runs fits; every run has a name, or none has."""
        rules, fitting = self._rules(spec), 0
        for runs in range(1, MOST_RUNS + 1):
            try:
                names = rules.name_runs(runs, _lists()[0])
            except BenchmarkError:
                continue
            fitting += 1
            promise(
                len(names) in (0, runs) and all(isinstance(name, str) for name in names),
                "`name_runs` gives one name per run, or nothing",
                f"{names!r} for {runs} runs",
                "return a list of texts, or leave `name_runs` as ProtocolRules has it",
            )
        promise(
            fitting > 0,
            f"some number of runs up to {MOST_RUNS} can be made",
            "every one is refused",
            "refuse only what does not fit, or give milder `settings`",
        )

    def test_sides_hold_row_positions(self, spec: ProtocolSpec) -> None:
        """Every side has rows; they are positions in the list, none of them twice."""
        for formulas, run, split in self._splits(spec):
            for side in SIDES:
                rows: Indices = getattr(split, side)
                array = isinstance(rows, np.ndarray) and rows.ndim == 1
                whole = array and rows.dtype.kind in "iu"
                promise(
                    not array or len(rows) > 0,
                    f"there are {side} rows",
                    f"none of {len(formulas)} in run {run}",
                    "give every side a row at least, of small datasets too",
                )
                valid = whole and 0 <= rows.min() <= rows.max() < len(formulas)
                promise(
                    valid and len(np.unique(rows)) == len(rows),
                    f"{side} rows are positions in [0, {len(formulas)}), none twice",
                    f"{rows!r} in run {run}",
                    "return numpy arrays of whole numbers, as np.flatnonzero gives",
                )

    def test_sides_are_disjoint(self, spec: ProtocolSpec) -> None:
        """No test row is a training row; if leak-free, no row is on two sides."""
        leak_free = self._rules(spec).leak_free
        pairs = (("train", "test"), *(_OTHER_PAIRS if leak_free else ()))
        for _, run, split in self._splits(spec):
            for one, other in pairs:
                both = np.intersect1d(getattr(split, one), getattr(split, other))
                promise(
                    not len(both),
                    f"no row is a {one} and a {other} row",
                    f"rows {both[:5].tolist()} are both in run {run}",
                    "keep the sides apart (a protocol with leak_free = False may only let "
                    "validation rows be others too)",
                )

    def test_groups_stay_whole(self, spec: ProtocolSpec) -> None:
        """If leak-free, no group is on two sides."""
        if not self._rules(spec).leak_free:
            skip("the protocol does not promise to be leak-free")
        for formulas, run, split in self._splits(spec):
            side_of = {side: {formulas[row] for row in getattr(split, side)} for side in SIDES}
            for one, other in (("train", "test"), *_OTHER_PAIRS):
                twins = sorted(side_of[one] & side_of[other])
                promise(
                    not twins,
                    "a leak-free protocol keeps every group on one side",
                    f"{', '.join(twins[:3])} on {one} and {other} in run {run}",
                    "split groups, not rows; or set leak_free = False",
                )

    def test_split_depends_on_its_arguments_alone(self, spec: ProtocolSpec) -> None:
        """The same groups, run and seed give the same split, whatever was drawn before."""
        with global_seed(1):
            first = list(self._splits(spec))
        with global_seed(2):
            second = list(self._splits(spec))
        for (_, run, one), (_, _, other) in zip(first, second, strict=True):
            promise(
                _equal(one, other),
                "a split depends on groups, run and seed alone",
                f"two different splits for run {run} of the same rows",
                "draw from np.random.default_rng(seed) or derive_seed, not from global generators; "
                "sort before iterating over a set",
            )

    def test_runs_differ(self, spec: ProtocolSpec) -> None:
        """Runs have different splits: their spread is what the table shows."""
        for rows in _lists():
            rules = self._rules(spec)
            splits = [self._split(rules, _groups(rules, rows, run), run) for run in RUNS]
            promise(
                not all(_equal(splits[0], split) for split in splits[1:]),
                "splits differ from run to run",
                f"runs {', '.join(map(str, RUNS))} of {len(rows.formulas)} rows are split alike",
                "let the split depend on `run` or on `seed`, which differs from run to run unless "
                "`seed_by_run` is False",
            )

    def test_scaler_sees_what_it_may(self, spec: ProtocolSpec) -> None:
        """The scaler is fitted on rows of the split; if leak-free, on training rows only."""
        rules = self._rules(spec)
        for _, run, split in self._splits(spec):
            rows = rules.scaler_rows(split)
            sides = ("train",) if rules.leak_free else SIDES
            allowed = np.concatenate([getattr(split, side) for side in sides])
            promise(
                len(rows) > 0 and bool(np.isin(rows, allowed).all()),
                f"the scaler is fitted on {' or '.join(sides)} rows",
                f"{len(rows)} rows, {int((~np.isin(rows, allowed)).sum())} of them others, in run "
                f"{run}",
                "return split.train",
            )

    def test_labels_are_true(self, spec: ProtocolSpec) -> None:
        """Labels are the true κ; others are allowed where leak-free is not promised."""
        rules = self._rules(spec)
        kappa = _kappa()
        own, decoder = Scaler.fit(kappa, rules.offset), Scaler.fit(kappa * 3, rules.offset)
        same = np.asarray(rules.labels(kappa, own, own))
        other = np.asarray(rules.labels(kappa, own, decoder))
        finite = same.shape == other.shape == kappa.shape and bool(np.isfinite(other).all())
        promise(
            finite and np.array_equal(kappa, _kappa()),
            "finite labels, one per row; κ itself is left as it is",
            f"shapes {same.shape} and {other.shape}, or κ was changed",
            "return new arrays",
        )
        true = [np.allclose(labels, kappa, rtol=1e-9) for labels in (same, other)]
        promise(
            true[0] and (true[1] or not rules.leak_free),
            "labels are the true κ (without leak_free: where the two scalers are the same)",
            f"labels off by up to a factor {np.max(np.abs(other / kappa)):.3g}",
            "leave `labels` as ProtocolRules has it",
        )

    def _rules(self, spec: ProtocolSpec) -> ProtocolRules:
        return spec.make(self.made_settings(spec))

    def _splits(self, spec: ProtocolSpec) -> list[tuple[list[str], int, Split]]:
        rules = self._rules(spec)
        lists = [(_groups(rules, rows, run), run) for rows in _lists() for run in RUNS]
        return [(groups, run, self._split(rules, groups, run)) for groups, run in lists]

    def _split(self, rules: ProtocolRules, groups: list[str], run: int) -> Split:
        before = list(groups)
        try:
            split = rules.split(groups, run, 1000 + run if rules.seed_by_run else 1000)
        except DataError as problem:
            broken(
                f"{len(groups)} rows of {len(set(groups))} groups can be split",
                f"refused: {problem}",
                "refuse only datasets too small for the split, or give milder `settings`",
            )
        promise(
            isinstance(split, Split) and groups == before,
            "`split` returns a Split and leaves the groups alone",
            f"a {type(split).__name__}" if groups == before else "the groups were changed",
            "return Split(train, validation, test)",
        )
        return split


_RULES = ("leak_free", "scaler_stage", "view")
_OTHER_PAIRS = (("train", "validation"), ("validation", "test"))


def _groups(rules: ProtocolRules, rows: BenchmarkRows, run: int) -> list[str]:
    """The groups that `split` is given."""
    return [name for name in rules.group(rows, run) if name is not None]


@cache
def _lists() -> tuple[BenchmarkRows, ...]:
    """The rows of a benchmark's only dataset, once for each of `LISTS`."""
    return tuple(_rows(_numbers(rows, formulas)) for rows, formulas in LISTS)


def _rows(numbers: Sequence[int]) -> BenchmarkRows:
    """Makes binary crystals with random targets: one formula per number, its twins unlike it."""
    seen: Counter[int] = Counter()
    crystals = []
    for number in numbers:
        species = (METALS[number % len(METALS)], OTHERS[number // len(METALS)])
        crystals.append(binary_crystal(species, number + min(seen[number], 1)))
        seen[number] += 1
    targets = 10 ** np.random.default_rng(len(numbers)).normal(1.0, 0.6, len(numbers))
    tested = np.ones(len(numbers), dtype=bool)
    return BenchmarkRows(("Toy",) * len(numbers), tuple(crystals), targets, tested)


def _numbers(rows: int, groups: int) -> list[int]:
    """Formulas, as numbers, of so many rows in random order, every one of them at least once.

    The shares of the formulas fall like 1/n: a few have many polymorphs, most have one row or two.
    """
    generator = np.random.default_rng(rows)
    shares = 1 / np.arange(1, groups + 1)
    more = generator.choice(groups, rows - groups, p=shares / shares.sum())
    chosen = np.concatenate([np.arange(groups), more])
    return [int(number) for number in generator.permutation(chosen)]


def _kappa() -> Floats:
    return np.asarray(10 ** np.random.default_rng(3).normal(1.0, 0.6, 50))


def _equal(one: Split, other: Split) -> bool:
    return all(np.array_equal(getattr(one, side), getattr(other, side)) for side in SIDES)
