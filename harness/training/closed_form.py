"""Heads in closed form: fitted to the rows of one member, and asked for κ of others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.plugin.head import FitRows, Predictor, Uncertain
from harness.registry.plugin_calls import Breach, call, using

if TYPE_CHECKING:
    from harness.planning.resolved import ResolvedModel
    from harness.plugin.arrays import Floats


def fit_head(model: ResolvedModel, rows: FitRows) -> Predictor:
    """Fits the closed-form head of a model to one member's rows.

    Raises:
        PluginError: what the head returned cannot be called.
    """
    assert model.head.fit is not None
    rows = replace(rows, embeddings=_read_only(rows.embeddings), kappa=_read_only(rows.kappa))
    predictor: Predictor = call(
        model.head.fit,
        model.head_settings,
        rows,
        action=f"fitting the head {model.head_ref.name!r}",
        returns=Callable,  # type: ignore[arg-type]
    )
    return predictor


def ask(
    model: ResolvedModel, predictor: Predictor, embeddings: Floats
) -> tuple[Floats, Floats | None]:
    """Asks a fitted head for κ (W/(m·K)) of rows, and the std of log10 κ if it gives it.

    Raises:
        PluginError: it did not return one number per row.
    """
    with using(predictor, f"predicting with the head {model.head_ref.name!r}"):
        answer = predictor(_read_only(embeddings))
    if isinstance(answer, Uncertain):
        kappa = _one_per_row(answer.kappa, embeddings, model)
        return kappa, _one_per_row(answer.std_log, embeddings, model)
    return _one_per_row(answer, embeddings, model), None


def _read_only(values: Floats) -> Floats:
    """Returns a view that a plugin cannot write to: others are handed the same numbers."""
    view = values.view()
    view.flags.writeable = False
    return view


def _one_per_row(values: Any, asked: Floats, model: ResolvedModel) -> Floats:
    """Checks what a closed-form head has predicted."""
    found = np.asarray(values)
    if found.shape != (len(asked),) or found.dtype.kind not in "fiu":
        raise Breach(
            model.head.fit,
            f"The head {model.head_ref.name!r} predicted an array of shape {found.shape} "
            f"and type {found.dtype} for {len(asked)} rows: its predictor must return one number "
            "per row.",
        )
    return found.astype(np.float64)
