"""Where things lie on disk: data, weights, caches, and the files shipped with the package."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.errors import DataError, HarnessError, WeightsError

_PACKAGE = Path(__file__).resolve().parents[1]


def shipped(relative: str) -> Path:
    """Returns the path of a file that travels with the package (`datasets/…`, `leaderboards/…`).

    In a wheel these lie in `harness/_shipped/`; in a checkout at the top of the tree.
    """
    installed = _PACKAGE / "_shipped" / relative
    return installed if installed.exists() else _PACKAGE.parent / relative


def _folders(variable: str) -> tuple[Path, ...]:
    return tuple(Path(p).expanduser() for p in os.environ.get(variable, "").split(os.pathsep) if p)


def _cache_home() -> Path:
    override = os.environ.get("HARNESS_CACHE")
    if override:
        return Path(override).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("paraisite-harness")


def _own_home(variable: str, folder: str) -> Path:
    """Where something of the user's lies: as the variable says, else in the folder of user data."""
    override = os.environ.get(variable)
    if override:
        return Path(override).expanduser()
    from platformdirs import user_data_path

    return user_data_path("paraisite-harness") / folder


def _imports_home() -> Path:
    return _own_home("HARNESS_IMPORTS", "datasets")


def _bundles_home() -> Path:
    return _own_home("HARNESS_BUNDLES", "bundles")


def _is_offline() -> bool:
    return os.environ.get("HARNESS_OFFLINE", "").strip().lower() not in ("", "0", "false", "no")


def _existing(folder: Path, what: str, option: str, error: type[HarnessError]) -> Path:
    if not folder.is_dir():
        raise error(f"The folder with {what}, {folder}, does not exist: correct {option}.")
    return folder


@dataclass(frozen=True)
class Locations:
    """Folders that are searched, in order of preference.

    Attributes:
        data: folders with datasets in neutral form (`--data-dir`, then `$HARNESS_DATA`).
        weights: folders with published weights (`--weights-dir`, then `$HARNESS_WEIGHTS`).
        cache: the user's cache (`$HARNESS_CACHE`, else the platform's): downloads and encodings.
        imports: the user's own datasets (`$HARNESS_IMPORTS`, else in the platform's folder of user
            data), where `harness datasets import` puts them.
        bundles: the user's own default bundle (`$HARNESS_BUNDLES`, else in the platform's folder of
            user data), where `harness bundle use` and `harness bundle make` put it.
        offline: never reach for the network (`$HARNESS_OFFLINE`, unless empty, `0` or `false`).
    """

    data: tuple[Path, ...] = field(default_factory=lambda: _folders("HARNESS_DATA"))
    weights: tuple[Path, ...] = field(default_factory=lambda: _folders("HARNESS_WEIGHTS"))
    cache: Path = field(default_factory=_cache_home)
    imports: Path = field(default_factory=_imports_home)
    bundles: Path = field(default_factory=_bundles_home)
    offline: bool = field(default_factory=_is_offline)

    @classmethod
    def of(cls, data_dir: Path | None = None, weights_dir: Path | None = None) -> Locations:
        """Puts folders named on the command line ahead of those from the environment.

        Raises:
            DataError: `data_dir` is given and no folder.
            WeightsError: the same of `weights_dir`.
        """
        base = cls()
        data, weights = base.data, base.weights
        if data_dir:
            data = (_existing(data_dir, "datasets", "--data-dir", DataError), *data)
        if weights_dir:
            weights = (_existing(weights_dir, "weights", "--weights-dir", WeightsError), *weights)
        return replace(base, data=data, weights=weights)
