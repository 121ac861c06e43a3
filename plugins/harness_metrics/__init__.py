"""The metrics of the harness, each with its direction."""

from __future__ import annotations

from collections.abc import Iterable

from harness.plugin import MetricSpec, hookimpl
from harness_metrics import metrics

WATTS = "W/(m·K)"


@hookimpl
def register_metrics() -> Iterable[MetricSpec]:
    """Offers the metrics; the first three are the primary ones."""
    yield MetricSpec("mae-log", "MAE log₁₀ κ", "decades", False, metrics.mae_log)
    yield MetricSpec("rmse-log", "RMSE log₁₀ κ", "decades", False, metrics.rmse_log)
    yield MetricSpec("spearman", "Spearman ρ", "", True, metrics.spearman)
    yield MetricSpec("mape", "MAPE", "", False, metrics.mape)
    yield MetricSpec("median-ape", "median APE", "", False, metrics.median_ape)
    yield MetricSpec("mae", "MAE κ", WATTS, False, metrics.mae)
    yield MetricSpec("r2-log", "R² log₁₀ κ", "", True, metrics.r2_log)
    yield MetricSpec("within-factor-2", "within ×2", "", True, metrics.within_factor_2)
    yield MetricSpec("recall-low-10", "recall of lowest 10 %", "", True, metrics.recall_low_10)
