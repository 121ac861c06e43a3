"""Every built-in plugin passes the cases of its kind: one that is added cannot be forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness import Locations, Registry
from harness.apps.testing.runner import case_names, run_cases
from harness.apps.testing.selection import cases_of
from harness.testing import MetricCases

REGISTRY = Registry()
HEAVY = ("m3gnet", "megnet-dgl", "descriptors", "AFLOW")
"""Whose cases take more than five seconds."""

SPECS = [
    pytest.param(
        catalog.kind,
        spec,
        id=f"{catalog.kind} {name}",
        marks=[pytest.mark.slow] if name in HEAVY else [],
    )
    for catalog in REGISTRY.catalogs()
    for name, spec in catalog.items()
    if catalog.owner(name) in REGISTRY.built_in and catalog.owner(name) != "potentials"
]
"""All but those that need packages which are not among the checks: `tests/harness_potentials` has
them."""

SHARED = Path(__file__).resolve().parents[4] / "shared"
"""Data and weights of others; the cases that need them are skipped where it is absent."""

SMALLER: Mapping[str, Mapping[str, Any]] = {
    "m3gnet": {"units": 16, "node_embedding": 16, "edge_embedding": 16, "blocks": 2},
    "tensornet": {"units": 16, "blocks": 1},
    "random-forest": {"n_estimators": 20},
}
"""Settings that make slow ones fast, except for their published weights, which fit no others."""

NEEDED: Mapping[str, Mapping[str, Any]] = {"concat": {"of": ["composition", "descriptors"]}}
"""Settings that have no default."""

TARGETS = [1.0, 10.0, 100.0, 1000.0]
PREDICTIONS = [1.0, 100.0, 100.0, 100.0]
KNOWN_VALUES = {
    "mae-log": 0.5,  # (0 + 1 + 0 + 1) / 4
    "rmse-log": 0.5**0.5,
    "spearman": 3 / 15**0.5,  # ranks 1 2 3 4 and 1 3 3 3: covariance 3/4, variances 5/4 and 3/4
    "mape": (0 + 9 + 0 + 0.9) / 4,
    "median-ape": 0.45,
    "mae": (0 + 90 + 0 + 900) / 4,
    "rmse": ((90**2 + 900**2) / 4) ** 0.5,
    "r2-log": 1 - 2 / 5,
    # the mean is 277.75; the sum of squares about it is 701,520.75
    "r2": 1 - (90**2 + 900**2) / 701520.75,
    "within-factor-2": 0.5,
    "recall-low-10": 1.0,
}


@pytest.mark.parametrize(("kind", "spec"), SPECS)
def test_a_built_in_passes_the_cases_of_its_kind(
    kind: str, spec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(SHARED / "data"))
    monkeypatch.setenv("HARNESS_WEIGHTS", str(SHARED / "weights"))
    results = []
    as_it_comes, smaller = (
        cases_of(kind, spec, settings, REGISTRY, Locations())
        for settings in (NEEDED.get(spec.name, {}), (NEEDED | SMALLER).get(spec.name, {}))
    )
    for name in case_names(type(as_it_comes)):
        cases = as_it_comes if "pretrained" in name else smaller
        if isinstance(cases, MetricCases):
            cases.known_values = [(TARGETS, PREDICTIONS, KNOWN_VALUES[spec.name])]
        results += run_cases(cases, spec, [name])
    assert [r for r in results if r.outcome in ("failed", "error")] == []
    elsewhere = any("not on this machine" in r.message for r in results)  # rows to be downloaded
    assert sum(r.outcome == "passed" for r in results) >= (6 if elsewhere else 9)


def test_every_plugin_that_comes_with_the_harness_is_tried() -> None:
    assert not REGISTRY.broken
    assert {param.values[0] for param in SPECS} == {c.kind for c in REGISTRY.catalogs()}
    tried = {param.values[1].name for param in SPECS}
    assert {"megnet", "mlp", "strict", "Experiment", "joint", "mae-log"} <= tried
