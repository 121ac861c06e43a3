"""Heads in closed form: fitted to the rows of one member, and asked for values of others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.plugin.head import FitRows, Predictor, Uncertain
from harness.registry.plugin_calls import Breach, call, using

if TYPE_CHECKING:
    from harness.planning.plan import MemberOf
    from harness.planning.resolved import ResolvedModel
    from harness.plugin.arrays import Floats


def rows_to_fit(member: MemberOf, embeddings: Floats) -> FitRows:
    """Returns what the closed-form head of a member is fitted to.

    Args:
        member: whose training rows.
        embeddings: of these.
    """
    stage, own = member.stage, member.rows
    return FitRows(
        embeddings,
        own.labels[own.train],
        own.scaler,
        stage.dataset.property,
        own.init_seed,
        stage.model.backbone.blocks,
    )


def fit_head(model: ResolvedModel, rows: FitRows) -> Predictor:
    """Fits the closed-form head of a model to one member's rows.

    Raises:
        PluginError: what the head returned cannot be called.
    """
    assert model.head.fit is not None
    rows = replace(rows, embeddings=_read_only(rows.embeddings), targets=_read_only(rows.targets))
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
    """Asks a fitted head for values of rows, and for their std on the property's scale, if known.

    Raises:
        PluginError: it did not return one number per row.
    """
    with using(predictor, f"predicting with the head {model.head_ref.name!r}"):
        answer = predictor(_read_only(embeddings))
    if isinstance(answer, Uncertain):
        values = _one_per_row(answer.median, embeddings, model)
        return values, _one_per_row(answer.std, embeddings, model)
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
