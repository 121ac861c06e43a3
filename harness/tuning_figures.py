"""Figures of searches: architectures compared, what mattered, and how the best came about."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from harness.drawing import COLOURS, QUIET, panels, plain_log_axis
from harness.search import FINISHED, Search, setting_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ARCHITECTURES = 16
"""Of more, the best are drawn."""


def draw_searches(searches: Sequence[Search]) -> Figure:
    """Draws three panels for every search, side by side.

    Left: validation score of every head that was tried to its end, mean and std over runs (and, for
    a search run by run, over its trials). Middle: share of the variance among the better trials
    that each parameter explains (PED-ANOVA, Watanabe et al., arXiv 2304.10255), mean over runs.
    Right: the scores of trials in their order, and the best so far, mean over runs.
    """
    figure, grid = panels(len(searches), 3, 4.2, 3.2, "no configuration is searched for")
    for search, (heads, parameters, history) in zip(searches, grid, strict=True):
        _draw_heads(heads, search)
        _draw_importances(parameters, search)
        _draw_history(history, search)
        heads.set_title(search.title, fontsize=8, loc="left")
    return figure


def _complete(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def architecture(trial: FrozenTrial) -> str:
    """What a trial has made of the head, as `64-64, relu`; empty where it varied nothing of it."""
    head = setting_of(trial).head
    return ", ".join(_in_words(name, value) for name, value in head.items())


def _in_words(name: str, value: Any) -> str:
    if isinstance(value, list | tuple):
        return "-".join(map(str, value))
    return f"{name} {value:g}" if isinstance(value, int | float) else str(value)


def _by_architecture(search: Search) -> Mapping[str, tuple[float, float]]:
    """Mean and std of the scores of every head that was trained to its end."""
    scores: dict[str, list[float]] = {}
    spreads: dict[str, list[float]] = {}
    for study in search.studies.values():
        for trial in _complete(study):
            scores.setdefault(architecture(trial), []).append(search.score(trial))
            if (spread := trial.user_attrs.get("spread")) is not None:
                spreads.setdefault(architecture(trial), []).append(spread)
    return {
        name: (
            float(np.mean(own)),
            float(np.mean(spreads[name])) if name in spreads else float(np.std(own)),
        )
        for name, own in scores.items()
    }


def _draw_heads(axes: Axes, search: Search) -> None:
    found = _by_architecture(search)
    sign = -1 if search.higher_is_better else 1
    best = sorted(found, key=lambda name: sign * found[name][0])[:MOST_ARCHITECTURES]
    if not any(best):
        _say(axes, "the head was not varied")
        return
    places = range(len(best))
    means = [found[name][0] for name in best]
    axes.errorbar(
        means, places, xerr=[found[name][1] for name in best], fmt="o", color=COLOURS[0], ms=4
    )
    axes.set_yticks(places, best, fontsize=6)
    axes.invert_yaxis()
    axes.set_xlabel(f"validation {search.metric}, mean and std", fontsize=8)
    left = len(found) - len(best)
    if left:
        axes.annotate(
            f"the best {len(best)} of {len(found)}", (1, 1), xycoords="axes fraction",
            ha="right", va="bottom", fontsize=6, color=QUIET,
        )  # fmt: skip


def importances(study: optuna.Study) -> dict[str, float]:
    """Share of the variance that each parameter explains; empty where trials are too few."""
    if len(_complete(study)) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            return dict(get_param_importances(study, evaluator=PedAnovaImportanceEvaluator()))
        except ValueError:  # parameters that were the same in all trials
            return {}


def _draw_importances(axes: Axes, search: Search) -> None:
    found = [own for study in search.studies.values() if (own := importances(study))]
    if not found:
        _say(axes, "too few trials to tell what mattered")
        return
    names = list(dict.fromkeys(name for own in found for name in own))
    mean = {name: float(np.mean([own.get(name, 0.0) for own in found])) for name in names}
    ordered = sorted(names, key=lambda name: mean[name])
    axes.barh(range(len(ordered)), [mean[name] for name in ordered], color=COLOURS[2], height=0.6)
    axes.set_yticks(range(len(ordered)), ordered, fontsize=7)
    axes.set_xlabel("importance (PED-ANOVA)", fontsize=8)


def _draw_history(axes: Axes, search: Search) -> None:
    best = []
    wanted = search.tuning.trials
    for study in search.studies.values():
        finished = study.get_trials(deepcopy=False, states=FINISHED)[:wanted]
        scores = np.full(wanted, np.nan)  # of those that were pruned too
        for place, trial in enumerate(finished):
            if trial.state is TrialState.COMPLETE:
                scores[place] = search.score(trial)
        axes.plot(np.arange(1, wanted + 1), scores, ".", color=QUIET, ms=2, zorder=1)
        keep = np.fmax if search.higher_is_better else np.fmin
        best.append(keep.accumulate(scores))
    mean = np.mean(np.stack(best), axis=0)  # from where every run has a complete trial
    axes.plot(np.arange(1, wanted + 1), mean, color=COLOURS[5], linewidth=1.5, zorder=2)
    axes.set_xlabel("trial", fontsize=8)
    axes.set_ylabel(f"validation {search.metric}", fontsize=8)
    values = np.concatenate([line.get_ydata() for line in axes.get_lines()])
    known: Any = values[np.isfinite(values)]
    if len(known) and known.min() > 0 and known.max() > 5 * known.min():
        plain_log_axis(axes, "y")
    axes.annotate(
        "line: best so far", (1, 1), xycoords="axes fraction", ha="right", va="bottom",
        fontsize=6, color=COLOURS[5],
    )  # fmt: skip


def _say(axes: Axes, text: str) -> None:
    axes.set_axis_off()
    axes.annotate(text, (0.5, 0.5), xycoords="axes fraction", ha="center", fontsize=8, color=QUIET)
