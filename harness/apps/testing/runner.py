"""Runs the cases of a spec without a test framework."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal
from unittest import SkipTest

from harness.apps.testing.cases import Cases
from harness.apps.testing.promises import BrokenPromise, Remark
from harness.errors import HarnessError
from harness.registry.plugin_calls import describe, root_of, unwrapped

Outcome = Literal["passed", "failed", "skipped", "error"]


@dataclass(frozen=True)
class CaseResult:
    """How one case ended.

    Attributes:
        name: of the method, as pytest shows it.
        case: what is promised, in words.
        outcome: `error` where the plugin raised something that no case expects.
        message: why it did not pass; what a passed case remarks.
        place: file and line of the plugin that it comes from; empty where it passed.
        seconds: taken.
    """

    name: str
    case: str
    outcome: Outcome
    message: str
    place: str
    seconds: float


def run_cases(cases: Cases, spec: Any, names: Sequence[str] | None = None) -> Iterator[CaseResult]:
    """Runs the cases of one spec, one after the other: all, or those named."""
    for name in case_names(type(cases)) if names is None else names:
        yield _run(getattr(cases, name), spec)


def case_names(kind: type[Cases]) -> list[str]:
    """Returns the names of all cases of a kind, the general ones first."""
    names = [name for base in reversed(kind.__mro__) for name in vars(base)]
    return [name for name in dict.fromkeys(names) if name.startswith("test_")]


def _run(case: Any, spec: Any) -> CaseResult:
    title = (inspect.getdoc(case) or case.__name__).splitlines()[0].rstrip(".")
    started = perf_counter()
    outcome: Outcome = "passed"
    message = place = ""
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("default")
        try:
            case(spec)
        except SkipTest as reason:
            outcome, message = "skipped", str(reason)
        except (BrokenPromise, HarnessError) as problem:
            outcome, message, place = "failed", str(problem), definition(spec)
        except Exception as problem:  # whatever a plugin does, the other cases are run
            outcome, place = "error", definition(spec)
            message = describe(problem, root_of(_maker(spec)))
    if outcome == "passed":
        message = " ".join(str(r.message) for r in remarks if r.category is Remark)
    return CaseResult(case.__name__, title, outcome, message, place, perf_counter() - started)


def definition(spec: Any) -> str:
    """Returns `file, line n` of what a spec calls; empty where that cannot be known."""
    maker: Any = _maker(spec)
    try:
        file, (_, line) = inspect.getsourcefile(maker), inspect.getsourcelines(maker)
    except (TypeError, OSError):
        return str(getattr(spec, "card", ""))
    return f"{file}, line {line}"


def _maker(spec: Any) -> Any:
    names = ("make", "fit", "load", "stages", "function")
    makers = (getattr(spec, name, None) for name in names)
    return unwrapped(next((maker for maker in makers if maker is not None), None))
