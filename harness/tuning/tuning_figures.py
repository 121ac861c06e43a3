"""Figures of searches: architectures compared, what mattered, and how the best came about."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from harness.drawing.style import COLOURS, PANELS, QUIET, panels, plain_log_axis
from harness.tuning.search import FINISHED, Search, setting_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ARCHITECTURES = 24
"""Of more, the best are drawn."""

MOST_SEARCHES = PANELS // 3
"""Of more, the first are drawn."""


def draw_searches(searches: Sequence[Search]) -> Figure:
    """Draws three panels for every search, side by side.

    Left: validation score of every head that was tried to its end, mean and std over runs (and, for
    a search run by run, over its trials). Middle: share of the variance among the better trials
    that each parameter explains (PED-ANOVA, Watanabe et al., arXiv 2304.10255), mean over runs.
    Right: the scores of trials in their order, and the best so far, mean over runs.
    """
    drawn = searches[:MOST_SEARCHES]
    figure, grid = panels(len(drawn), 3, 4.2, 3.4, "no configuration is searched for")
    if len(drawn) < len(searches):
        figure.suptitle(f"The first {len(drawn)} of {len(searches)} searches", fontsize=8)
    for search, (heads, parameters, history) in zip(drawn, grid, strict=True):
        _draw_heads(heads, search)
        _draw_importances(parameters, search)
        _draw_history(history, search)
        heads.set_title(search.title, fontsize=8, loc="left")
    return figure


def _complete(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def architectures(search: Search) -> dict[str, list[FrozenTrial]]:
    """Trials that were trained to their end, by what they have made of the head.

    A head is called by the settings that differ, as `64-64, relu`, or that not every trial has;
    there is one name, which is empty, where none does.
    """
    trials = [trial for study in search.studies.values() for trial in _complete(study)]
    heads = [setting_of(trial).head for trial in trials]
    names = dict.fromkeys(name for head in heads for name in head)
    varied = [name for name in names if any(head.get(name) != heads[0].get(name) for head in heads)]
    found: dict[str, list[FrozenTrial]] = {}
    for trial, head in zip(trials, heads, strict=True):
        label = ", ".join(_in_words(name, head[name]) for name in varied if name in head)
        found.setdefault(label, []).append(trial)
    return found


def _in_words(name: str, value: Any) -> str:
    if isinstance(value, list | tuple):
        return "-".join(map(str, value))
    return f"{name} {value:g}" if isinstance(value, int | float) else str(value)


def _mean_and_std(search: Search, trials: Sequence[FrozenTrial]) -> tuple[float, float]:
    """Of scores over trials; the std that over runs, where every trial was made in all of them."""
    scores = [search.score(trial) for trial in trials]
    spreads = [trial.user_attrs["spread"] for trial in trials if "spread" in trial.user_attrs]
    if not spreads:
        spreads = [np.std(scores, ddof=1)] if len(scores) > 1 else [0.0]
    return float(np.mean(scores)), float(np.mean(spreads))


def _draw_heads(axes: Axes, search: Search) -> None:
    found = {name: _mean_and_std(search, trials) for name, trials in architectures(search).items()}
    sign = -1 if search.higher_is_better else 1
    best = sorted(found, key=lambda name: sign * found[name][0])[:MOST_ARCHITECTURES]
    if not any(best):
        _say(axes, "the head was not varied")
        return
    means, stds = zip(*(found[name] for name in best), strict=True)
    axes.errorbar(means, range(len(best)), xerr=stds, fmt="o", color=COLOURS[0], markersize=4)
    axes.set_yticks(range(len(best)), best, fontsize=6)
    axes.invert_yaxis()
    which = f", best {len(best)} of {len(found)}" if len(best) < len(found) else ""
    axes.set_xlabel(f"validation {search.metric}, mean and std{which}", fontsize=8)


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
    from matplotlib.ticker import MaxNLocator

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
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
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
