"""Bundles that are asked about some structures at a time, in this process or on an executor."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.apps.predict.bundle_set import NamedFolders, load_named
from harness.apps.predict.scan_sources import Item, read_item
from harness.remote.dispatcher import Dispatcher
from harness.remote.parcels import pack_folder, unpack_folder
from harness.training.environment import threads_wanted, use_threads

if TYPE_CHECKING:
    import pyarrow as pa

    from harness.remote.executor_session import ExecutorSession
    from harness.remote.tasks import Worker

CHUNK_STRUCTURES = 512
"""Most structures that are asked about together."""

SHARES = 4
"""Parts per slot that few structures are cut into, so that no worker is waited for long."""

SharedFolders = tuple[tuple[str, str, str], ...]
"""Of every bundle its name, that of its folder, and the digest of what stands for its files."""


@dataclass(frozen=True)
class BundleRequest:
    """Which bundles are asked, and how.

    Attributes:
        bundles: their names and folders, in the order of their columns.
        level: of the interval.
        device: to predict on; see `prediction.resolve_device`.
        plugins: Python files to load as plugins besides the installed ones.
        properties: what the bundles are to predict; any if there are none.
        weights_dir: folder with files of weights that their models are made from.
    """

    bundles: NamedFolders
    level: float
    device: str = "cpu"
    plugins: tuple[Path, ...] = ()
    properties: tuple[str, ...] = ()
    weights_dir: Path | None = None


class Predictor:
    """Loaded bundles.

    Args:
        request: which.
    """

    def __init__(self, request: BundleRequest) -> None:
        use_threads(threads_wanted())
        self._bundles = load_named(
            request.bundles,
            request.properties,
            request.device,
            request.plugins,
            request.weights_dir,
        )
        self._level = request.level

    def part(self, items: Sequence[Item], about: Mapping[bytes, str]) -> bytes:
        """Reads and predicts structures; returns the Parquet file of their rows.

        Args:
            items: read, or still to be read.
            about: what the file says of itself.
        """
        import pyarrow.parquet as pq

        rows = self._bundles.table([read_item(item) for item in items], self._level)
        buffer = io.BytesIO()
        pq.write_table(rows.replace_schema_metadata(about), buffer, compression="zstd")
        return buffer.getvalue()


class PredictorElsewhere:
    """Bundles on the workers of an executor, which are sent them once.

    Args:
        request: which bundles.
        session: with the executor.
    """

    def __init__(self, request: BundleRequest, session: ExecutorSession) -> None:
        self.dispatcher = Dispatcher(session)
        shared = [session.packer.share_bytes(pack_folder(folder)) for _, folder in request.bundles]
        self._handles = dict(shared)
        self._request = replace(request, bundles=(), plugins=(), weights_dir=None)
        self._folders: SharedFolders = tuple(
            (name, folder.name, digest)
            for (name, folder), (digest, _) in zip(request.bundles, shared, strict=True)
        )

    def start(self, about: object, items: Sequence[Item], metadata: Mapping[bytes, str]) -> None:
        """Has a part made; `dispatcher.finished` tells of it by what it is about."""
        task = (predict_part, self._request, self._folders, metadata, items)
        self.dispatcher.start(about, *task, more=self._handles)

    def table(self, items: Sequence[Item]) -> pa.Table:
        """Predicts structures; see `BundleSet.table`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        share = -(-len(items) // (SHARES * self.dispatcher.session.slots))
        size = min(max(share, 1), CHUNK_STRUCTURES)
        chunks = [items[start : start + size] for start in range(0, max(len(items), 1), size)]
        task: tuple[Any, ...] = (predict_part, self._request, self._folders, {})
        parts = self.dispatcher.map(*task, each=chunks, more=self._handles)
        return pa.concat_tables([pq.read_table(io.BytesIO(part)) for part in parts])


def predict_part(
    worker: Worker,
    request: BundleRequest,
    folders: SharedFolders,
    about: Mapping[bytes, str],
    items: Sequence[Item],
) -> bytes:
    """Predicts structures on a worker; see `Predictor.part`.

    Args:
        worker: with the bundles among what is shared.
        request: less the places of its bundles, plugins and weights.
        folders: of the bundles.
        about: see `Predictor.part`.
        items: the structures.
    """
    key = (folders, request)
    if key not in _loaded:
        places = []
        for name, folder, digest in folders:
            place = worker.folder / "bundles" / digest / folder
            unpack_folder(worker.shared[digest], place)
            places.append((name, place))
        plugins = tuple(worker.registry.files.values())
        _loaded.clear()
        _loaded[key] = Predictor(replace(request, bundles=tuple(places), plugins=plugins))
    return _loaded[key].part(items, about)


_loaded: dict[tuple[object, ...], Predictor] = {}
"""Bundles that this worker predicts with: those that it was last asked about."""
