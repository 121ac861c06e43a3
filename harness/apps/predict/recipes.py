"""Bundles that one command makes: a benchmark of one model, which is run and exported."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api.running import run
from harness.apps.predict.default_bundle import SHIPPED, own_default, use_bundle
from harness.apps.predict.predicting import export
from harness.errors import BundleError, FailedCellsWarning, did_you_mean
from harness.files import discard
from harness.plugin.locations import Locations

if TYPE_CHECKING:
    from harness.apps.predict.bundle import BundleRecord
    from harness.training.stop_signal import StopSignal


def find_recipe(name: str) -> Path:
    """Returns the benchmark file of a recipe.

    Raises:
        BundleError: there is none of this name.
    """
    known = {path.stem: path for path in sorted(SHIPPED.parent.glob("*.toml"))}
    if name not in known:
        raise BundleError(
            f"There is no recipe {name!r}.{did_you_mean(name, known)} "
            "Of a leaderboard of your own, `harness export` makes a bundle."
        )
    return known[name]


def make_bundle(
    name: str,
    folder: Path | str | None = None,
    *,
    data_dir: Path | str | None = None,
    observers: Sequence[object] = (),
    jobs: int = 1,
    stop: StopSignal | None = None,
) -> tuple[Path, BundleRecord]:
    """Fetches data, trains and exports, as a recipe says; after a stop, goes on from there.

    Args:
        name: of the recipe.
        folder: to write; must not be there. If not given, the bundle becomes the default one.
        data_dir: folder with datasets, looked in first.
        observers: see `harness.run`.
        jobs: processes that share the work.
        stop: see `harness.run`.

    Returns:
        Where the bundle lies, and what is known about it.

    Raises:
        HarnessError: there is no such recipe; the data are not to be had; the training fails.
    """
    recipe = find_recipe(name)
    results = Locations().cache / "recipes" / name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FailedCellsWarning)  # told below
        leaderboard = run(
            recipe, out=results, observers=observers, jobs=jobs, stop=stop, data_dir=data_dir
        )
    if leaderboard.failed:
        reasons = "; ".join(dict.fromkeys(leaderboard.failed.values()))
        raise BundleError(f"The recipe {name!r} has failed: {reasons}")
    if folder is not None:
        return Path(folder), export(recipe, "", folder, out=results, data_dir=data_dir)
    made = results / "bundle"
    discard(made)
    export(recipe, "", made, out=results, data_dir=data_dir)
    return own_default(), use_bundle(made)
