"""The packages that bring potentials, and the weights in their wheels."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from harness.plugin import SYMBOLS, PluginError, PretrainedWeights, WeightsError

ELEMENTS = tuple(symbol for symbol in SYMBOLS[:94] if symbol not in ("Po", "At", "Rn", "Fr", "Ra"))
"""The 89 elements of MPtrj."""

SEEN = "MPtrj"
"""What CHGNet 0.3.0 and SevenNet-0 were trained on: energies, forces, stresses (and magnetic
moments) along relaxations of about 146,000 crystals of the Materials Project (Deng et al., Nat.
Mach. Intell. 5, 1031, 2023). Most crystals of our datasets are among them, their κ is not."""


@cache
def weights_of(package: str, extra: str, file: str, name: str) -> PretrainedWeights:
    """Finds a file of weights in a wheel; loads nothing.

    Args:
        package: that it lies in.
        extra: of ours that installs the package.
        file: below the package's folder.
        name: of the weights, to which the package's version is added.

    Raises:
        PluginError: the package is not installed.
        WeightsError: the file is not in it.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise PluginError(
            f"{name} needs the package {package}: "
            f"install the extra with `pip install 'paraisite-harness[{extra}]'`, "
            "or take what uses it out of the benchmark file."
        )
    folder = Path(spec.origin).parent
    if not (folder / file).is_file():
        raise WeightsError(
            f"{package} {version(package)} has no {file}: install the version in constraints.txt."
        )
    digest = sha256((folder / file).read_bytes()).hexdigest()
    return PretrainedWeights(name, folder, digest, SEEN)
