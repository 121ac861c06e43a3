"""Objects as bytes: what many tasks need travels once, by its digest; weights travel as files."""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from harness.files import whole_file
from harness.plugin.backbone import PretrainedWeights

KEPT_OBJECTS = 32
"""Objects that a worker keeps at hand: datasets and backbones, mostly."""


class Packer:
    """Writes objects as bytes, and says what of them is shared.

    Args:
        share: takes bytes that many tasks need, and returns what stands for them.
        by_content: types whose objects travel once; they must not change.
    """

    def __init__(self, share: Callable[[bytes], Any], by_content: tuple[type, ...]) -> None:
        self._share, self._by_content = share, by_content
        self._handles: dict[str, Any] = {}
        # with the object, so that ids stay its own
        self._known: dict[int, tuple[object, str, dict[str, Any]]] = {}

    def pack(self, thing: object) -> tuple[bytes, dict[str, Any]]:
        """Returns an object as bytes, and by digest what stands for the shared bytes in it."""
        needed: dict[str, Any] = {}

        def stand_in(part: object) -> tuple[str, ...] | None:
            if isinstance(part, PretrainedWeights):
                digest = self._once(part, lambda: (pack_folder(part.path), {}), needed)
                return ("weights", digest, part.name, part.path.name, part.digest, part.seen)
            if isinstance(part, self._by_content) and part is not thing:
                return ("object", self._once(part, lambda: self.pack(part), needed))
            return None

        return _dump(thing, stand_in), needed

    def share_bytes(self, content: bytes) -> tuple[str, Any]:
        """Returns the digest of bytes that many tasks need, and what stands for them."""
        digest = sha256(content).hexdigest()
        if digest not in self._handles:
            self._handles[digest] = self._share(content)
        return digest, self._handles[digest]

    def _once(
        self,
        part: object,
        write: Callable[[], tuple[bytes, dict[str, Any]]],
        needed: dict[str, Any],
    ) -> str:
        """Shares an object unless it is; adds what stands for it, and for what is shared in it."""
        if id(part) not in self._known:
            content, inside = write()
            digest, handle = self.share_bytes(content)
            self._known[id(part)] = (part, digest, {**inside, digest: handle})
        _, digest, handles = self._known[id(part)]
        needed |= handles
        return digest


def _dump(thing: object, stand_in: Callable[[object], tuple[str, ...] | None]) -> bytes:
    class Pickler(pickle.Pickler):
        def persistent_id(self, part: object) -> tuple[str, ...] | None:
            return stand_in(part)

    buffer = io.BytesIO()
    Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(thing)
    return buffer.getvalue()


def unpack(content: bytes, shared: Mapping[str, bytes], folder: Path) -> Any:
    """The inverse of `Packer.pack`, on a worker.

    Args:
        content: the bytes.
        shared: by digest, the shared bytes.
        folder: where files of weights may be put.
    """

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, identity: Sequence[str]) -> object:
            kind, digest, *facts = identity
            if kind == "object":
                return _at_hand(digest, lambda: unpack(shared[digest], shared, folder))
            name, file, own_digest, seen = facts
            place = folder / "weights" / digest / file
            unpack_folder(shared[digest], place)
            return PretrainedWeights(name, place, own_digest, seen)

    return Unpickler(io.BytesIO(content)).load()


_kept: OrderedDict[str, Any] = OrderedDict()


def _at_hand(digest: str, load: Callable[[], Any]) -> Any:
    """Returns what was unpacked before, or unpacks it; equal bytes are one object in a process."""
    if digest not in _kept:
        _kept[digest] = load()
    _kept.move_to_end(digest)
    while len(_kept) > KEPT_OBJECTS:
        _kept.popitem(last=False)
    return _kept[digest]


def pack_folder(path: Path) -> bytes:
    """Returns a file, or all files of a folder, as bytes."""
    if path.is_file():
        return pickle.dumps({"": path.read_bytes()})
    inside = [own for own in sorted(path.rglob("*")) if own.is_file()]
    return pickle.dumps({own.relative_to(path).as_posix(): own.read_bytes() for own in inside})


def unpack_folder(content: bytes, place: Path) -> None:
    """Writes what `pack_folder` has read, unless it is there."""
    for relative, data in pickle.loads(content).items():  # noqa: S301
        put_file(place / relative if relative else place, data)


def put_file(path: Path, content: bytes) -> None:
    """Writes a file whole, unless it is there with that content."""
    if not path.is_file() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as staging:
            staging.write_bytes(content)
