"""Weights that others have published: found in folders or on the hub, read as tensors."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from functools import cache
from hashlib import file_digest, sha256
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import WeightsError
from harness.plugin.backbone import PretrainedWeights

if TYPE_CHECKING:
    from torch import Tensor

    from harness.plugin.locations import Locations

STATE_FILE = "state.pt"
"""What matgl calls the file with the tensors, beside `model.json`."""

HUB_OWNER = "materialyze"
"""Who publishes matgl's weights on the Hugging Face hub."""


def find_published(name: str, locations: Locations) -> PretrainedWeights:
    """Finds weights that matgl has published: in the folders for weights, else on the hub.

    Raises:
        WeightsError: they are nowhere; the message names every place and the remedy.
    """
    tried = [path for folder in locations.weights for path in (folder / name, folder)]
    for folder in tried:
        if (folder / STATE_FILE).is_file():
            return _describe(name, folder / STATE_FILE)
    looked = ", ".join(str(path / STATE_FILE) for path in tried) or "no folder is set"
    remedy = (
        f"Put the published file where it is looked for: DIR/{name}/{STATE_FILE}, with DIR given "
        "by --weights-dir or $HARNESS_WEIGHTS."
    )
    if locations.offline:
        raise WeightsError(
            f"Weights {name!r} not found. Looked for: {looked}; not on the Hugging Face hub, since "
            f"the harness is offline ($HARNESS_OFFLINE). {remedy}"
        )
    try:
        return _describe(name, _download(name))
    except Exception as error:  # the hub's client raises many kinds, all of them "not there"
        raise WeightsError(
            f"Weights {name!r} not found. Looked for: {looked}; then on the Hugging Face hub, "
            f"{HUB_OWNER}/{name}: {type(error).__name__}: {error} {remedy}"
        ) from error


def find_weights_file(name: str, locations: Locations) -> PretrainedWeights:
    """Finds a file of weights that the user names: in the folders for weights, else as a path.

    What was named by its whole path, on another machine say, is looked for there first, and then by
    its name alone.

    Args:
        name: of the file, which may lie in a folder of such a folder; or its path.
        locations: with the folders.

    Returns:
        The name and digest of the file, of which nothing is known but its content.

    Raises:
        WeightsError: it cannot be read, or is nowhere: the message names every place and the
            remedy.
    """
    own = Path(name).expanduser()
    tried = [*(folder / own for folder in locations.weights), own]
    if own.is_absolute():
        tried = [own, *(folder / own.name for folder in locations.weights)]
    for path in tried:
        if path.is_file():
            return PretrainedWeights(own.name, path.resolve(), _digest_of(path.resolve()), seen="")
    raise WeightsError(
        f"Weights {name!r} not found. Looked for: {', '.join(map(str, tried))}. Put the file in a "
        "folder that --weights-dir or $HARNESS_WEIGHTS names, or write its path."
    )


def _digest_of(path: Path) -> str:
    try:
        found = path.stat()
        return _digest(path, found.st_size, found.st_mtime_ns)
    except OSError as problem:
        raise WeightsError(f"{path} cannot be read: {problem.strerror}.") from None


@cache
def _digest(path: Path, size: int, changed_ns: int) -> str:
    """The sha256 of a file, which is read once for as long as it looks the same."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _download(name: str) -> Path:
    """Fetches the file from the hub into its client's own cache; needs the extra `matgl`."""
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise WeightsError(
            "downloading needs the package huggingface_hub: pip install 'paraisite-harness[matgl]'."
        ) from error
    return Path(hf_hub_download(repo_id=f"{HUB_OWNER}/{name}", filename=STATE_FILE))


def _describe(name: str, path: Path) -> PretrainedWeights:
    digest = sha256(path.read_bytes()).hexdigest()
    return PretrainedWeights(name=name, path=path, digest=digest, seen=name.partition("-")[2])


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads a file of tensors and nothing else: pickled code in it is refused.

    Raises:
        WeightsError: the file is missing, damaged, or holds something other than tensors.
    """
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(
            f"{path} cannot be read as a file of tensors ({type(error).__name__}: {error}). "
            "Fetch the published file again."
        ) from error
    tensors = isinstance(state, Mapping) and all(
        isinstance(tensor, torch.Tensor) for tensor in state.values()
    )
    if not tensors:
        raise WeightsError(f"{path} holds a {type(state).__name__}: expected names and tensors.")
    return dict(state)
