"""Objects as bytes: what many tasks need travels once, by its digest; weights travel as files."""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from harness.files import whole_file
from harness.plugin.backbone import PretrainedWeights

KEPT_OBJECTS = 32
"""Objects that a worker keeps at hand: datasets, mostly."""


class Packer:
    """Writes objects as bytes, and says what of them is shared.

    Args:
        share: takes bytes that many tasks need, and returns what stands for them.
        by_content: types whose objects travel once; they must not change.
    """

    def __init__(self, share: Callable[[bytes], Any], by_content: tuple[type, ...]) -> None:
        self._share, self._by_content = share, by_content
        self._handles: dict[str, Any] = {}
        self._known: dict[int, tuple[object, str]] = {}  # with the object, so that ids stay its own

    def pack(self, thing: object) -> tuple[bytes, dict[str, Any]]:
        """Returns an object as bytes, and by digest what stands for the shared bytes in it."""
        needed: dict[str, Any] = {}

        def stand_in(part: object) -> tuple[str, ...] | None:
            if isinstance(part, PretrainedWeights):
                digest = self._once(part, lambda: pickle.dumps(_files_of(part.path)))
                identity: tuple[str, ...] = ("weights", digest, part.name, part.digest, part.seen)
            elif isinstance(part, self._by_content) and part is not thing:
                digest = self._once(part, lambda: self._shared_pickle(part))
                identity = ("object", digest)
            else:
                return None
            needed[digest] = self._handles[digest]
            return identity

        return _dump(thing, stand_in), needed

    def share_bytes(self, content: bytes) -> tuple[str, Any]:
        """Returns the digest of bytes that many tasks need, and what stands for them."""
        digest = sha256(content).hexdigest()
        if digest not in self._handles:
            self._handles[digest] = self._share(content)
        return digest, self._handles[digest]

    def _once(self, part: object, write: Callable[[], bytes]) -> str:
        if id(part) not in self._known:
            self._known[id(part)] = (part, self.share_bytes(write())[0])
        return self._known[id(part)][1]

    @staticmethod
    def _shared_pickle(part: object) -> bytes:
        return _dump(part, lambda _: None)


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
                return _at_hand(digest, lambda: pickle.loads(shared[digest]))  # noqa: S301
            place = _put_files(folder / "weights" / digest, shared[digest])
            return replace(PretrainedWeights("", Path(), "", ""), **_weights(place, facts))

    return Unpickler(io.BytesIO(content)).load()


def _weights(place: Path, facts: Sequence[str]) -> dict[str, Any]:
    name, digest, seen = facts
    return {"name": name, "path": place, "digest": digest, "seen": seen}


_kept: OrderedDict[str, Any] = OrderedDict()


def _at_hand(digest: str, load: Callable[[], Any]) -> Any:
    """Returns what was unpacked before, or unpacks it; equal bytes are one object in a process."""
    if digest not in _kept:
        _kept[digest] = load()
    _kept.move_to_end(digest)
    while len(_kept) > KEPT_OBJECTS:
        _kept.popitem(last=False)
    return _kept[digest]


def _files_of(path: Path) -> tuple[str, dict[str, bytes]]:
    """A file, or all files of a folder: its name, and contents by relative path."""
    if path.is_file():
        return path.name, {"": path.read_bytes()}
    inside = [own for own in sorted(path.rglob("*")) if own.is_file()]
    return path.name, {own.relative_to(path).as_posix(): own.read_bytes() for own in inside}


def _put_files(folder: Path, content: bytes) -> Path:
    """Writes what `_files_of` has read, unless it is there; returns its place."""
    name, files = pickle.loads(content)  # noqa: S301
    place: Path = folder / name
    for relative, data in files.items():
        path = place / relative if relative else place
        if not path.is_file() or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as staging:
                staging.write_bytes(data)
    return place
