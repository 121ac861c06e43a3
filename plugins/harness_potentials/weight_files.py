"""Weight files that the user names: found, read with care, and told by their digest."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from harness.plugin import PluginError, PretrainedWeights, WeightsError

if TYPE_CHECKING:
    import torch

    from harness_potentials.settings import FileSettings


def package_version(package: str, extra: str) -> str:
    """Returns the version of a package without importing it.

    Raises:
        PluginError: it is not installed.
    """
    try:
        return version(package)
    except PackageNotFoundError as error:
        raise PluginError(
            f"This potential needs the package {package}: "
            f"install the extra with `pip install 'paraisite-harness[{extra}]'`, "
            "or take what uses it out of the benchmark file."
        ) from error


def declare_weights(
    weights: PretrainedWeights | None, settings: FileSettings, potential: str
) -> PretrainedWeights:
    """Returns the file that was found, with what it is said to have been trained on.

    Raises:
        WeightsError: none is named.
    """
    if weights is None:
        raise WeightsError(
            f"The package of {potential!r} brings no weights, and none are named: write "
            f'{{ name = "{potential}", weights = "FILE", seen = "MPtrj" }}, with the name of a '
            "published file and of the data that it was trained on."
        )
    return replace(weights, seen=settings.seen)


def read_file(weights: PretrainedWeights, trust: str) -> Any:
    """Reads what torch has saved; code in it, only if it is trusted.

    Args:
        weights: as they were found.
        trust: the digest of a file whose code is trusted.

    Raises:
        WeightsError: the file has changed, is damaged, or holds code that is not trusted.
    """
    import torch

    content = weights.path.read_bytes()
    if sha256(content).hexdigest() != weights.digest:
        raise WeightsError(f"{weights.path} has changed while it was in use: start again.")
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        _check_trust(weights, trust, error)
    except Exception as error:  # torch's readers raise many kinds
        raise _unreadable(weights, error) from error
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=False)
    except Exception as error:  # whatever the code in it does
        raise _unreadable(weights, error) from error


def _check_trust(weights: PretrainedWeights, trust: str, error: Exception) -> None:
    if trust == weights.digest:
        return
    known = "What `trust` names is another file. " if trust else ""
    raise WeightsError(
        f"{weights.path} holds more than tensors: reading it runs the code that is in it, whatever "
        f"that does. {known}If you know where the file comes from and trust it, write "
        f'trust = "{weights.digest}" beside `weights`.'
    ) from error


def _unreadable(weights: PretrainedWeights, error: Exception) -> WeightsError:
    return WeightsError(
        f"{weights.path} cannot be read ({type(error).__name__}: {error}): it is damaged, no file "
        "of this package, or was written beside other versions of it and of what it needs."
    )


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Sets torch's default while such a package works; some set their own, which ends here too."""
    import torch

    before, precision = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
        torch.set_float32_matmul_precision(precision)
