"""Where things lie on disk: data, weights, caches, and the files shipped with the package."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


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


@dataclass(frozen=True)
class Locations:
    """Folders that are searched, in order of preference.

    Attributes:
        data: folders with datasets in neutral form (`--data-dir`, then `$HARNESS_DATA`).
        weights: folders with published weights (`--weights-dir`, then `$HARNESS_WEIGHTS`).
        cache: the user's cache (`$HARNESS_CACHE`, else the platform's): downloads and encodings.
        offline: never reach for the network (`$HARNESS_OFFLINE`).
    """

    data: tuple[Path, ...] = field(default_factory=lambda: _folders("HARNESS_DATA"))
    weights: tuple[Path, ...] = field(default_factory=lambda: _folders("HARNESS_WEIGHTS"))
    cache: Path = field(default_factory=_cache_home)
    offline: bool = field(default_factory=lambda: bool(os.environ.get("HARNESS_OFFLINE")))

    @classmethod
    def of(cls, data_dir: Path | None = None, weights_dir: Path | None = None) -> Locations:
        """Puts folders named on the command line ahead of those from the environment."""
        base = cls()
        return cls(
            data=((data_dir,) if data_dir else ()) + base.data,
            weights=((weights_dir,) if weights_dir else ()) + base.weights,
            cache=base.cache,
            offline=base.offline,
        )
