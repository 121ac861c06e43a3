"""`harness cost`: what the models of a leaderboard cost, beside their scores."""

from __future__ import annotations

from harness.cli.options import (
    BenchmarkArgument,
    DataOption,
    JsonOption,
    OutOption,
    PluginOption,
    WeightsOption,
)


def cost(
    benchmark: BenchmarkArgument,
    out: OutOption = None,
    data_dir: DataOption = None,
    weights_dir: WeightsOption = None,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Measure what the models of a leaderboard cost, on one core, and write costs.csv.

    Seconds to encode one crystal that is not in the cache, to fit one run (of a network as its
    record has it, a member's share of its stack), and to predict one crystal by one run; beside
    them the score on the dataset trained on.

    Examples:
        harness cost quickstart
        harness cost strict --data-dir published/ --json
    """
    from harness.api import registry_of
    from harness.api.costs import COSTS_FILE, measure_costs
    from harness.cli.output import print_json, print_table, records, say

    registry = registry_of(benchmark, plugins=plugin or ())
    costs = measure_costs(benchmark, registry, out, data_dir, weights_dir)
    rows = records(costs)
    if json:
        print_json(rows)
        return
    numbers = list(costs.columns[2:])
    shown = [
        {name: f"{row[name]:.2g}" if name in numbers else row[name] for name in row} for row in rows
    ]
    print_table("Seconds of one core", shown, numbers)
    say(f"Written: {COSTS_FILE} beside the results.")
