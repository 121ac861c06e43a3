"""The metrics of the harness, each with its direction."""

from __future__ import annotations

from collections.abc import Iterable

from harness.plugin import MetricSpec, hookimpl
from harness_metrics import metrics


@hookimpl
def register_metrics() -> Iterable[MetricSpec]:
    """Offers the metrics; the first three are the primary ones."""
    log = "log₁₀ {symbol}"
    yield MetricSpec("mae-log", f"MAE {log}", "decades", False, metrics.mae, needs="log")
    yield MetricSpec("rmse-log", f"RMSE {log}", "decades", False, metrics.rmse, needs="log")
    yield MetricSpec("spearman", "Spearman ρ", "", True, metrics.spearman)
    yield MetricSpec("mape", "MAPE", "", False, metrics.mape, needs="positive")
    yield MetricSpec("median-ape", "median APE", "", False, metrics.median_ape, needs="positive")
    yield MetricSpec("mae", "MAE {symbol}", "{unit}", False, metrics.mae)
    yield MetricSpec("rmse", "RMSE {symbol}", "{unit}", False, metrics.rmse)
    yield MetricSpec("r2-log", f"R² {log}", "", True, metrics.r2, needs="log")
    yield MetricSpec("r2", "R² {symbol}", "", True, metrics.r2)
    yield MetricSpec(
        "within-factor-2", "within ×2", "", True, metrics.within_factor_2, needs="positive"
    )
    yield MetricSpec("recall-low-10", "recall of lowest 10 %", "", True, metrics.recall_low_10)
