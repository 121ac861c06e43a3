"""Which bundle answers where none is named: the one that the user has chosen, else the shipped one.

The shipped one is trained on data that may be passed on, which is little: see its recipe. A user's
own is a copy, in a folder of its own, so that it stays whatever becomes of where it was made.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from harness.apps.predict.bundle import RECORD_FILE, TENSOR_FILE, load_bundle, read_record
from harness.files import discard, make_folder, replacing_folder, unwritable
from harness.plugin.locations import Locations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.apps.predict.bundle import BundleRecord

SHIPPED = Path(__file__).with_name("shipped") / "simple-crystals"
"""The bundle that comes with the harness; `make bundle` makes it again."""

SHIPPED_NAME = "shipped"
"""What it is called where a bundle is to be chosen."""


def own_default(locations: Locations | None = None) -> Path:
    """Returns where a default bundle of the user's lies, or would."""
    return (locations or Locations()).bundles / "default"


def default_bundle(locations: Locations | None = None) -> Path:
    """Returns the folder of the bundle that answers where none is named."""
    own = own_default(locations)
    return own if (own / RECORD_FILE).is_file() else SHIPPED


def use_bundle(folder: Path, plugins: Sequence[Path | str] = ()) -> BundleRecord:
    """Makes a copy of a bundle the default.

    Args:
        folder: of the bundle.
        plugins: Python files to load as plugins besides the installed ones.

    Raises:
        BundleError, PluginError: it cannot be used; see `load_bundle`.
        StoreError: the folder of the user's bundles cannot be written.
    """
    record = load_bundle(folder, plugins=plugins).record
    target = own_default()
    if target.exists() and folder.resolve() == target.resolve():
        return record
    make_folder(target.parent)
    try:
        with replacing_folder(target) as new:
            for name in (RECORD_FILE, TENSOR_FILE):
                shutil.copyfile(folder / name, new / name)
    except OSError as problem:
        raise unwritable(target.parent, problem) from problem
    return record


def use_shipped() -> BundleRecord:
    """Makes the shipped bundle the default again; a copy of the user's own is removed.

    Raises:
        StoreError: it cannot be removed.
    """
    own = own_default()
    if own.exists():
        discard(own)
    return read_record(SHIPPED)
