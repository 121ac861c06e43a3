"""Published files: from the user's folders or the cache, else fetched; always verified."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.plugin import DataError

if TYPE_CHECKING:
    from harness.plugin import Locations

TIMEOUT_SECONDS = 60.0
MIRROR = "HARNESS_MATBENCH_URL"
"""The variable with the address of a folder that has the files, in place of their own addresses."""


@dataclass(frozen=True)
class PublishedFile:
    """A file that others have published.

    Attributes:
        name: on disk.
        url: where it can be fetched.
        digest: of its content, as `sha256:…` or `md5:…`.
    """

    name: str
    url: str
    digest: str

    @property
    def address(self) -> str:
        """Where it is fetched: its own address, or that on the mirror."""
        mirror = os.environ.get(MIRROR)
        return f"{mirror.rstrip('/')}/{self.name}" if mirror else self.url


def find_file(dataset: str, file: PublishedFile, locations: Locations) -> Path:
    """Returns where a published file lies, having fetched it if need be.

    Args:
        dataset: that needs it.
        file: what it must be.
        locations: folders to look in; the cache, which keeps what is fetched.

    Raises:
        DataError: it is nowhere and cannot be fetched, or is not the published one.
    """
    folders = (*locations.data, locations.cache / "datasets")
    path = next((p for folder in folders if (p := folder / file.name).is_file()), None)
    if path is not None:
        _verify(path, file)
        return path
    try:
        return _download(file, folders[-1], locations)
    except DataError as problem:
        raise DataError(
            f"The dataset {dataset!r} was not found. Looked for {file.name} in "
            f"{', '.join(map(str, folders))}; {problem} Put the file into a folder and name that "
            f"with --data-dir or $HARNESS_DATA, or run `harness datasets fetch {dataset}` where "
            "there is a network."
        ) from None


def _verify(path: Path, file: PublishedFile) -> None:
    import pooch  # type: ignore[import-untyped]

    algorithm = file.digest.partition(":")[0]
    found = f"{algorithm}:{pooch.file_hash(str(path), alg=algorithm)}"
    if found != file.digest:
        raise DataError(
            f"{path} is not the published file: its digest is {found}, expected {file.digest}. It "
            "was not read. Remove it and fetch it again."
        )


def _download(file: PublishedFile, folder: Path, locations: Locations) -> Path:
    """Fetches a file into a folder, where it appears whole and verified, or not at all."""
    if locations.offline:
        raise DataError(f"{file.address} was not tried: offline ($HARNESS_OFFLINE).")
    import pooch

    try:
        return Path(
            pooch.retrieve(
                file.address,
                known_hash=file.digest,
                fname=file.name,
                path=folder,
                downloader=pooch.HTTPDownloader(timeout=TIMEOUT_SECONDS),
            )
        )
    except OSError as problem:  # every error of requests is one; or the cache cannot be written
        raise DataError(f"{file.address} could not be fetched: {_brief(problem)}.") from None
    except ValueError:  # what pooch says of another hash
        raise DataError(
            f"what came from {file.address} is not the published file ({file.digest}), and was "
            f"thrown away. If ${MIRROR} is set, check that mirror."
        ) from None


def _brief(problem: BaseException) -> str:
    """The innermost reason: what requests wraps around it fills lines and says nothing."""
    response = getattr(problem, "response", None)
    if response is not None:
        return f"HTTP {response.status_code} {response.reason}"
    while problem.__context__ is not None:
        problem = problem.__context__
    return f"{type(problem).__name__}: {problem}"
