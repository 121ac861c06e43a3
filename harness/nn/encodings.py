"""Encodings of crystals, kept on disk by content: what was built once is read ever after.

One folder per backbone (its class and its `encoding`), named by the hash of both; in it shards,
safetensors files named by the hash of their bytes. A shard is written beside its place and renamed
into it, and read only if name and bytes agree. So there is nothing to lock: two processes that
build at once write two good shards, a killed one leaves the finished ones, and damage is seen.

Within a shard the arrays of one name lie end to end: thousands of crystals are a dozen tensors,
which load 40 times faster than one tensor per array and take a third of the space.

What a backbone refuses (`CannotEncode`) is kept like an encoding, so it is not tried again.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load, save

from harness.errors import CannotEncode, DataError, ExecutorError, HarnessError
from harness.files import sweep, whole_file
from harness.plugin.backbone import Backbone
from harness.processes import begin_helper, clean_context
from harness.reading import check_regular
from harness.registry.plugin_calls import Breach, call
from harness.remote.dispatcher import Dispatcher

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.plugin.crystal import Crystal
    from harness.remote.executor_session import ExecutorSession
    from harness.remote.tasks import Worker

    Encoding = dict[str, NDArray[Any]]
    Encoded = Encoding | CannotEncode
    Encoder = Callable[[Backbone, Sequence[Crystal]], list[Encoded]]

LAYOUT = "1"
"""Changes whenever shards are laid out in another way: old ones are then left alone."""

SHARD_CRYSTALS = 1024
"""Most crystals per shard: all that a killed process has to build again, …"""

SHARD_SECONDS = 30.0
"""… unless they take so long: then a shard is written sooner."""

CHUNK_CRYSTALS = 32
"""Crystals encoded together; the first so many here, and timed, before others are sent away."""

SECONDS_PER_WORKER = 1.0
"""Work that a further process must take over to be worth its start (0.2 s of imports at best)."""

REFUSED = "cannot encode"
"""Names what stands in a shard for a crystal that was refused: the reason, as UTF-8 bytes."""

STORABLE = frozenset(
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split()
)


def load_encodings(
    backbone: Backbone,
    crystals: Sequence[Crystal],
    cache_dir: Path,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    most: int | None = None,
    elsewhere: ExecutorSession | None = None,
) -> list[Encoding]:
    """Returns what `backbone.encode` gives for every crystal, building only what is not on disk.

    A cache that cannot be written, or a damaged shard, costs a warning and time, never the result.

    Args:
        backbone: its `encoding` and `encode` are used. Must be picklable and importable to be sent
            to other processes; is used in this one otherwise.
        crystals: equal ones (by digest) are encoded once and share one entry.
        cache_dir: folder of the cache; made when there is something to write.
        workers: number of processes; `None` for as many as pay, judged by timing the first
            crystals. Other processes import the main script: where it is not guarded by
            `if __name__ == "__main__":` they stop, with a warning, and this one goes on alone.
        progress: called with (built, to build) after each crystal that was not on disk.
        most: processes that may pay; as many as there are cores unless given.
        elsewhere: the workers of an executor, in the place of processes, where one would pay.

    Raises:
        CannotEncode: the backbone refused a crystal; names it.
        PluginError: the backbone returned something else than a dict of arrays of numbers.
        RuntimeError: called by a main script that a process at its start is only importing.
    """
    found = _load(
        backbone, crystals, cache_dir, encode_together, workers, progress, most, elsewhere
    )
    encodings: list[Encoding] = []
    for crystal, encoded in zip(crystals, found, strict=True):
        if isinstance(encoded, CannotEncode):
            raise CannotEncode(f"The crystal {crystal.formula!r}: {encoded}")
        encodings.append(encoded)
    return encodings


def try_encodings(
    backbone: Backbone,
    crystals: Sequence[Crystal],
    cache_dir: Path,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    most: int | None = None,
    elsewhere: ExecutorSession | None = None,
) -> list[Encoded]:
    """Returns the encoding of every crystal, or why there is none; arguments as `load_encodings`.

    Whatever a crystal does to a backbone costs itself only. What is no crystal's doing (an import
    that fails, memory, files, a broken contract) is raised.
    """
    return _load(
        backbone, crystals, cache_dir, _encode_leniently, workers, progress, most, elsewhere
    )


def kept_encodings(
    backbone: Backbone, crystals: Sequence[Crystal], cache_dir: Path
) -> list[Encoded | None]:
    """Returns what is on disk of every crystal's encoding, or refusal; None where nothing is."""
    known = _read_shards(_folder(backbone, cache_dir), {crystal.digest for crystal in crystals})
    return [known.get(crystal.digest) for crystal in crystals]


def pack_kept(backbone: Backbone, crystals: Sequence[Crystal], cache_dir: Path) -> bytes:
    """Returns what is on disk of the encodings of some crystals, as one shard."""
    kept = kept_encodings(backbone, crystals, cache_dir)
    pairs = zip(crystals, kept, strict=True)
    return _pack({crystal.digest: _kept(one) for crystal, one in pairs if one is not None})


def put_shard(backbone: Backbone, cache_dir: Path, shard: bytes) -> None:
    """Puts a shard that was packed elsewhere on disk, unless it is there."""
    folder = _folder(backbone, cache_dir)
    if not (folder / _name(shard)).is_file():
        _put_shard(folder, shard)


def _folder(backbone: Backbone, cache_dir: Path) -> Path:
    return cache_dir / sha256(f"{LAYOUT}\0{identity(backbone)}".encode()).hexdigest()[:32]


def _load(
    backbone: Backbone,
    crystals: Sequence[Crystal],
    cache_dir: Path,
    encode: Encoder,
    workers: int | None,
    progress: Callable[[int, int], None] | None,
    most: int | None,
    elsewhere: ExecutorSession | None,
) -> list[Encoded]:
    _refuse_rerun()
    folder = _folder(backbone, cache_dir)
    wanted = {crystal.digest: crystal for crystal in crystals}
    known = _read_shards(folder, wanted.keys())
    missing = [crystal for digest, crystal in wanted.items() if digest not in known]
    fresh: dict[str, Encoded] = {}
    written = monotonic()
    try:
        building = _encode_all(
            backbone, missing, encode, workers, most or _count_cores(), elsewhere
        )
        for built, encoded in enumerate(building, start=1):
            crystal = missing[built - 1]
            _check(backbone, crystal, encoded)
            known[crystal.digest] = encoded
            if not isinstance(encoded, Fault):
                fresh[crystal.digest] = encoded
            if progress:
                progress(built, len(missing))
            if len(fresh) >= SHARD_CRYSTALS or monotonic() - written > SHARD_SECONDS:
                _write_shard(folder, fresh)
                fresh, written = {}, monotonic()
    finally:
        _write_shard(folder, fresh)
    return [known[crystal.digest] for crystal in crystals]


def identity(backbone: Backbone) -> str:
    """Names everything that determines what `encode` gives: whose it is, and its `encoding`.

    Whose, because two backbones of different authors may both call their encoding `v1`.
    """
    code: Any = backbone.encoder
    return f"{code.__module__}.{code.__qualname__} {backbone.encoding}"


def encode_together(backbone: Backbone, crystals: Sequence[Crystal]) -> list[Encoded]:
    """Returns what `backbone.encode_all` gives, held to its contract; see there.

    Args:
        backbone: whatever it raises passes, but for `CannotEncode` of one crystal.
        crystals: one or more.
    """
    if type(backbone).encode_all is Backbone.encode_all:
        return [_encode(backbone, crystal) for crystal in crystals]
    action = f"encoding {len(crystals)} crystals by {_class(backbone)}"
    together = call(backbone.encode_all, crystals, action=action, returns=Sequence)
    encodings: list[Encoded] = list(together)
    if len(encodings) != len(crystals) or not all(
        isinstance(encoded, Mapping | CannotEncode) for encoded in encodings
    ):
        kinds = ", ".join(sorted({type(encoding).__name__ for encoding in encodings}))
        raise Breach(
            backbone.encode_all,
            f"{_class(backbone)}.encode_all must return a dict of arrays for each of "
            f"{len(crystals)} crystals, but returned {len(encodings)} of type {kinds or 'none'}.",
        )
    return encodings


class Fault(CannotEncode):
    """An error of a backbone at a crystal, where it is no refusal: is not kept on disk."""


def _encode_leniently(backbone: Backbone, crystals: Sequence[Crystal]) -> list[Encoded]:
    """Encodes together; where that fails, one by one; what is raised stands for its crystal."""
    try:
        return encode_together(backbone, crystals)
    except Exception as problem:
        if not _is_of_a_crystal(problem):
            raise
        if len(crystals) == 1:
            text = str(problem).strip().partition("\n")[0]
            kind = "" if isinstance(problem, DataError) else f"{type(problem).__name__}: "
            return [Fault(kind + text)]
    return [encoded for crystal in crystals for encoded in _encode_leniently(backbone, [crystal])]


def _is_of_a_crystal(problem: Exception) -> bool:
    """Whether an error may be the doing of one crystal, so that the others can do without it."""
    if isinstance(problem, HarnessError):
        return isinstance(problem, DataError)
    return not isinstance(problem, ImportError | MemoryError | OSError)


def _encode(backbone: Backbone, crystal: Crystal) -> Encoded:
    action = f"encoding the crystal {crystal.formula!r} by {_class(backbone)}"
    try:
        encoding: Encoding = call(backbone.encode, crystal, action=action, returns=Mapping)
    except CannotEncode as refusal:
        return refusal
    return encoding


def _class(backbone: Backbone) -> str:
    return type(backbone).__qualname__


def _check(backbone: Backbone, crystal: Crystal, encoded: Encoded) -> None:
    """Refuses what a shard cannot hold, at the first crystal and not when the shard is full."""
    if isinstance(encoded, CannotEncode):
        return
    for name, array in encoded.items():
        if name == REFUSED:
            raise Breach(backbone.encode, f"{_class(backbone)}.encode: {name!r} is a name of ours.")
        if not isinstance(array, np.ndarray) or array.dtype.name not in STORABLE:
            kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise Breach(
                backbone.encode,
                f"{_class(backbone)}.encode gave {name!r} as {kind} for crystal "
                f"{crystal.formula!r}; expected a numpy array of one of "
                f"{', '.join(sorted(STORABLE))}.",
            )


# --- shards -----------------------------------------------------------------------------------


def _read_shards(folder: Path, wanted: Collection[str]) -> dict[str, Encoded]:
    """Reads the wanted encodings from all shards of a folder; removes damaged ones."""
    known: dict[str, Encoded] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            check_regular(path)
            content = path.read_bytes()
        except OSError as error:
            warnings.warn(f"Cached encodings not readable, building anew: {error}", stacklevel=3)
            continue
        if _name(content) == path.name:
            known.update((d, _told(encoding)) for d, encoding in _unpack(content, wanted).items())
        else:
            warnings.warn(f"Cached encodings damaged, building anew: {path}", stacklevel=3)
            with suppress(OSError):
                path.unlink()
    return known


def _told(encoding: Encoding) -> Encoded:
    """Takes what stands in a shard for an encoding, or for a refusal."""
    if REFUSED not in encoding:
        return encoding
    return CannotEncode(encoding[REFUSED].tobytes().decode())


def _kept(encoded: Encoded) -> Encoding:
    """The inverse of `_told`."""
    if not isinstance(encoded, CannotEncode):
        return encoded
    return {REFUSED: np.frombuffer(str(encoded).encode(), dtype=np.uint8)}


def _write_shard(folder: Path, encodings: Mapping[str, Encoded]) -> None:
    """Writes one shard, if there is anything to write, so that it is there whole or not at all."""
    if not encodings:
        return
    _put_shard(folder, _pack({digest: _kept(encoded) for digest, encoded in encodings.items()}))


def _put_shard(folder: Path, content: bytes) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        with whole_file(folder / _name(content)) as staging:
            staging.write_bytes(content)
    except OSError as error:
        warnings.warn(
            f"Encodings not cached, they will be built again next time: {error}", stacklevel=4
        )


def _name(content: bytes) -> str:
    return f"{sha256(content).hexdigest()[:32]}.safetensors"


def _pack(encodings: Mapping[str, Encoding]) -> bytes:
    """Lays encodings (by crystal digest) out as columns, one per name, dtype and rank of arrays.

    Column k named `x` is `values/k/x` (all arrays, flattened, end to end) with `shapes/k`
    (arrays × rank) and `rows/k` (arrays; which crystal each belongs to).
    """
    columns: dict[tuple[str, str, int], list[tuple[int, NDArray[Any]]]] = {}
    for row, encoding in enumerate(encodings.values()):
        for name, array in encoding.items():
            columns.setdefault((name, array.dtype.name, array.ndim), []).append((row, array))
    digests = np.frombuffer(bytes.fromhex("".join(encodings)), dtype=np.uint8)
    tensors: dict[str, NDArray[Any]] = {"digests": digests}
    for number, ((name, _, rank), cells) in enumerate(columns.items()):
        tensors[f"values/{number}/{name}"] = np.concatenate([a.ravel() for _, a in cells])
        shapes = np.array([a.shape for _, a in cells], dtype=np.int32)
        tensors[f"shapes/{number}"] = shapes.reshape(len(cells), rank)
        tensors[f"rows/{number}"] = np.array([row for row, _ in cells], dtype=np.int32)
    return save(tensors)


def _unpack(content: bytes, wanted: Collection[str]) -> dict[str, Encoding]:
    """The inverse of `_pack`, for the crystals that are wanted; arrays are views into their column.

    Most shards of a folder have none of them where there are many datasets.
    """
    tensors = load(content)
    together = tensors["digests"].tobytes().hex()
    digests = [together[start : start + 64] for start in range(0, len(together), 64)]
    found = {digest: row for row, digest in enumerate(digests) if digest in wanted}
    if not found:
        return {}
    encodings: list[Encoding] = [{} for _ in digests]
    for key in tensors:
        if not key.startswith("values/"):
            continue
        _, number, name = key.split("/", 2)
        shapes, rows = tensors[f"shapes/{number}"], tensors[f"rows/{number}"]
        ends = np.cumsum(shapes.prod(axis=1, dtype=np.int64))
        pieces = np.split(tensors[key], ends[:-1])
        for row, piece, shape in zip(rows.tolist(), pieces, shapes.tolist(), strict=True):
            encodings[row][name] = piece.reshape(shape)
    return {digest: encodings[row] for digest, row in found.items()}


# --- building ---------------------------------------------------------------------------------


def _encode_all(
    backbone: Backbone,
    crystals: Sequence[Crystal],
    encode: Encoder,
    workers: int | None,
    most: int,
    elsewhere: ExecutorSession | None,
) -> Iterator[Encoded]:
    """Encodes in order, in other processes where asked to or where it pays."""
    done = 0
    if workers is None:
        start = perf_counter()
        for crystal in crystals[:1]:  # pays for imports, and for what the backbone loads
            yield from encode(backbone, [crystal])
        loading = perf_counter() - start
        _loading[identity(backbone)] = max(loading, _loading.get(identity(backbone), 0.0))
        start = perf_counter()
        timed = list(_encode_chunk(backbone, crystals[1:CHUNK_CRYSTALS], encode))
        per_crystal = (perf_counter() - start) / max(len(timed), 1)
        yield from timed
        done = min(CHUNK_CRYSTALS, len(crystals))
        left = (len(crystals) - done) * per_crystal
        paying = int(left / _seconds_to_be_worth_it(backbone))
        workers = paying if elsewhere else min(most, paying)
    if workers > 1 and done < len(crystals):
        where = "on the executor" if elsewhere else f"in {workers} processes"
        others = (
            _encode_elsewhere(backbone, crystals[done:], encode, elsewhere)
            if elsewhere
            else _encode_in_processes(backbone, crystals[done:], encode, workers)
        )
        try:
            for encoded in others:
                done += 1
                yield encoded
        except ExecutorError:
            raise
        except Exception as error:
            # Unpicklable, not importable there, killed, or an honest error of this crystal:
            # here it either works or fails with a traceback that says where.
            warnings.warn(
                f"Encoding {where} failed, going on in this process: {error!r}",
                stacklevel=3,
            )
    for chunk in _chunks(crystals[done:]):
        yield from _encode_chunk(backbone, chunk, encode)


_loading: dict[str, float] = {}
"""Seconds that the first crystal took here, by identity of the backbone."""


def _seconds_to_be_worth_it(backbone: Backbone) -> float:
    """Work that a further process must take over: what is loaded here, it loads too."""
    return SECONDS_PER_WORKER + max(0.0, _loading[identity(backbone)] - 1.0)


def _chunks(crystals: Sequence[Crystal]) -> Iterator[Sequence[Crystal]]:
    return (crystals[i : i + CHUNK_CRYSTALS] for i in range(0, len(crystals), CHUNK_CRYSTALS))


def _encode_chunk(
    backbone: Backbone, crystals: Sequence[Crystal], encode: Encoder
) -> Iterator[Encoded]:
    """Encodes together; where that fails, one by one, up to the crystal that did it."""
    if not crystals:
        return
    try:
        together = encode(backbone, crystals)
    except Breach:
        raise
    except Exception:
        for crystal in crystals:
            yield _encode(backbone, crystal)
    else:
        yield from together


def _encode_elsewhere(
    backbone: Backbone, crystals: Sequence[Crystal], encode: Encoder, session: ExecutorSession
) -> Iterator[Encoded]:
    """Encodes in order on the workers of an executor."""
    for together in Dispatcher(session).map(
        encode_on_worker, encode, backbone, each=_chunks(crystals)
    ):
        yield from together


def encode_on_worker(
    worker: Worker, encode: Encoder, backbone: Backbone, crystals: Sequence[Crystal]
) -> list[Encoded]:
    """Encodes a chunk on a worker."""
    return encode(backbone, crystals)


_work: Callable[[Sequence[Crystal]], list[Encoded]] | Exception | None = None
"""Of a process that `_encode_in_processes` has started, or why it has none. The backbone is sent to
it once, so that what it loads, a potential say, is loaded once."""


def _encode_in_processes(
    backbone: Backbone, crystals: Sequence[Crystal], encode: Encoder, workers: int
) -> Iterator[Encoded]:
    """Encodes in order in processes that share nothing with this one."""
    sent = pickle.dumps(partial(encode, backbone))  # fails here, not in a process at its start
    pool = ProcessPoolExecutor(
        workers, mp_context=clean_context(), initializer=_start_worker, initargs=(sent,)
    )
    try:
        for together in pool.map(_encode_there, _chunks(crystals)):
            yield from together
    finally:
        pool.shutdown(cancel_futures=True)  # where this one is stopped, so are they


def _start_worker(sent: bytes) -> None:
    global _work  # noqa: PLW0603
    begin_helper()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the processes share the cores
    try:
        _work = pickle.loads(sent)  # noqa: S301 — by the process that started this one
    except Exception as problem:  # a pool would only say that it is broken
        _work = problem


def _encode_there(crystals: Sequence[Crystal]) -> list[Encoded]:
    if not callable(_work):
        raise _work or RuntimeError("not a process that encodes")
    return _work(crystals)


def _refuse_rerun() -> None:
    """Stops an unguarded main script from doing all its work again in every process it starts.

    The mark is the one that `multiprocessing.spawn` checks to the same end, but only where yet
    another process would be started.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError(
            "The main script runs again in a process that it started to encode crystals. "
            'Put what it does under `if __name__ == "__main__":`, or set workers to 1.'
        )


def _count_cores() -> int:
    """Number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
