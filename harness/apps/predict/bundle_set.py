"""Several bundles that are asked together: one table, one pass, crystals encoded once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api.lookup import path_of
from harness.apps.predict.bundle import (
    Bundle,
    BundleRecord,
    check_properties,
    open_bundle,
    read_record,
    rows_of,
)
from harness.apps.predict.conformal import DEFAULT_LEVEL
from harness.apps.predict.prediction_table import BundleColumns, join, lay_out
from harness.apps.predict.row_encodings import RowEncodings
from harness.data.structure_files import StructureRow
from harness.errors import BundleError
from harness.plugin.locations import Locations

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from harness.registry.registry import Registry

NAME = re.compile(r"[\w-]+")
"""A name that may begin columns."""

Folders = Path | str | Sequence[Path | str] | Mapping[str, Path | str]
"""One bundle or several; in a mapping, or as `NAME=FOLDER`, with names of their own."""

NamedFolders = tuple[tuple[str, Path], ...]


@dataclass(frozen=True, eq=False)
class BundleSet:
    """Trained ensembles, of one property or of several. `load_bundles` makes one.

    Attributes:
        bundles: in the order of their columns.
        layout: what the columns are called, bundle by bundle.
    """

    bundles: tuple[Bundle, ...]
    layout: tuple[BundleColumns, ...]

    def predict(self, structures: Iterable[Any], level: float = DEFAULT_LEVEL) -> pd.DataFrame:
        """Predicts structures with every bundle.

        Args:
            structures: crystals of the harness, structures of pymatgen, atoms of ASE, or rows of
                `read_structures`; may be mixed.
            level: of the intervals.

        Returns:
            One row per structure, in order, columns as in `prediction_table`. What one bundle
            cannot predict has the numbers of the others.

        Raises:
            DataError: something is no structure; or it is one, and no list of them.
        """
        frame: pd.DataFrame = self.table(rows_of(structures), level).to_pandas()
        return frame

    def table(self, rows: Sequence[StructureRow], level: float = DEFAULT_LEVEL) -> pa.Table:
        """Predicts rows, those that could not be read included; see `predict`."""
        encodings = RowEncodings(rows)
        tables = [bundle.table(rows, level, encodings) for bundle in self.bundles]
        return join(tables, self.layout)


def load_bundles(
    bundles: Folders,
    *,
    properties: Sequence[str] = (),
    device: str = "cpu",
    plugins: Sequence[Path | str] = (),
    weights_dir: Path | str | None = None,
) -> BundleSet:
    """Loads bundles that are to be asked together, and sees that each predicts what it must.

    Args:
        bundles: what `harness export` wrote. Where two predict one property, their columns begin
            with their names: those given, else those of the folders.
        properties: what they are to predict; any properties if not given.
        device: `cpu`, `cuda`, or `auto`.
        plugins: Python files to load as plugins besides the installed ones.
        weights_dir: see `load_bundle`.

    Raises:
        BundleError, PluginError, WeightsError: see `load_bundle` and `lay_out`.
    """
    named, files = name_folders(bundles), [Path(p) for p in plugins]
    return load_named(named, properties, device, files, path_of(weights_dir))


def load_named(
    folders: NamedFolders,
    properties: Sequence[str],
    device: str,
    plugins: Sequence[Path],
    weights_dir: Path | None,
) -> BundleSet:
    """Loads bundles whose names are settled; see `load_bundles`."""
    from harness.registry.registry import Registry

    records = [read_record(folder) for _, folder in folders]
    registry, locations = Registry(plugins), Locations.of(weights_dir=weights_dir)
    layout = lay_out_records(folders, records, registry, properties)
    loaded = (
        open_bundle(folder, record, registry, device, locations)
        for (_, folder), record in zip(folders, records, strict=True)
    )
    return BundleSet(tuple(loaded), layout)


def name_folders(bundles: Folders) -> NamedFolders:
    """Returns where bundles lie, each with a name.

    Raises:
        BundleError: there is none; or a name is none.
    """
    if isinstance(bundles, Mapping):
        named = tuple((name, Path(folder)) for name, folder in bundles.items())
    else:
        several = [bundles] if isinstance(bundles, Path | str) else bundles
        named = tuple(map(_name_folder, several))
    if not named:
        raise BundleError("No bundle is named: `harness export` makes bundles.")
    for name, _ in named:
        if not NAME.fullmatch(name):
            raise BundleError(f"The name {name!r} of a bundle: expected letters, digits, _ and -.")
    return named


def _name_folder(bundle: Path | str) -> tuple[str, Path]:
    name, equals, folder = str(bundle).partition("=")
    if equals and NAME.fullmatch(name) and not Path(bundle).exists():
        return name, Path(folder)
    stem = Path(bundle).resolve().name.removesuffix(".bundle")
    return re.sub(r"\W+", "_", stem), Path(bundle)


def lay_out_records(
    folders: NamedFolders,
    records: Sequence[BundleRecord],
    registry: Registry,
    properties: Sequence[str] = (),
) -> tuple[BundleColumns, ...]:
    """Lays out the table of bundles, of which the records were read.

    Raises:
        BundleError: they are of other properties than those asked for; or see `lay_out`.
        PluginError: a property is unknown.
    """
    where = [str(folder) for _, folder in folders]
    check_properties(dict(zip(where, records, strict=True)), properties, registry)
    specs = [registry.properties[record.property_name] for record in records]
    return lay_out([(name, spec) for (name, _), spec in zip(folders, specs, strict=True)])
