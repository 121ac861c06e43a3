"""Reads pickles of numpy, pandas and pymatgen without running anything that they name.

The files hold numpy arrays, pandas frames and objects of an old pymatgen. Two fences stand in front
of them: every opcode must be one that such files need, and every class that they name must be on
a short list. A listed class is not imported either: a `PickledObject` in its place remembers what
it was made from and what state it was given, and `pickle_tables` reads that.

What the fences do not bound is time: a file made to be slow to hash can keep a reader busy. The
published files are known by their git blob ids; of one's own, one knows who made them.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from functools import cache
from pathlib import Path
from typing import Any, Self

from harness.errors import DataError

MAX_BYTES = 256 * 2**20
"""Largest file that is read. The largest one mirrored for tests has 0.2 MB; structures_AFLOW.pkl
should have about 20 MB by its number of sites."""

OPCODES = frozenset(
    """PROTO FRAME STOP MARK MEMOIZE BINGET LONG_BINGET NONE NEWTRUE NEWFALSE
    BININT BININT1 BININT2 BINFLOAT SHORT_BINUNICODE BINUNICODE SHORT_BINBYTES BINBYTES BYTEARRAY8
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS
    STACK_GLOBAL REDUCE NEWOBJ BUILD""".split()
)
"""What protocols 4 and 5 need for plain objects. Left out on purpose: persistent ids, extension
codes (they can bypass `find_class`), the PUT family (a large index allocates as much memory) and
everything that only older protocols or out-of-band buffers use."""

_NAMES = {
    "builtins": "bytearray slice",
    "datetime": "date datetime timedelta timezone",
    "numpy": "_frombuffer _reconstruct dtype ndarray scalar",
    "pandas": """ArrowStringArray BlockManager BooleanArray BooleanDtype Categorical
        CategoricalDtype DataFrame DatetimeArray DatetimeTZDtype Float32Dtype
        Float64Dtype FloatingArray Index Int32Dtype Int64Dtype IntegerArray NA
        RangeIndex Series SingleBlockManager StringArray StringDtype Timestamp
        __pyx_unpickle_NDArrayBacked _new_Index _unpickle_block _unpickle_timestamp""",
    "pyarrow": "_restore_array chunked_array py_buffer type_for_alias",
    "pymatgen": "Composition Element Lattice PeriodicSite Species Structure",
    "pytz": "_UTC _p",
    "zoneinfo": "ZoneInfo",
}
CLASSES = frozenset((package, name) for package in _NAMES for name in _NAMES[package].split())
"""The only names a file may use, as (package, name): in which module of the package it stands
differs between versions."""


class PickledObject:
    """Stands in for an object of a pickle: remembers, and does nothing.

    Defining `__setstate__` matters: without it the unpickler would set attributes by itself.

    Attributes:
        args: what the object was made with.
        state: what it was given afterwards; None if nothing.
    """

    __slots__ = ("args", "state")

    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any) -> Self:
        """Keeps the arguments and does nothing with them."""
        record = super().__new__(cls)
        record.args = args
        record.state = None
        return record

    def __setstate__(self, state: Any) -> None:
        self.state = state


@cache
def _stand_in(name: str) -> type[PickledObject]:
    """An empty subclass for a name, so that what is read can be told apart by type."""
    return type(name, (PickledObject,), {"__slots__": ()})


def kind(value: object) -> str:
    """Name of the class a record stands in for; of the plain Python type for anything else."""
    return type(value).__name__


class _RestrictedUnpickler(pickle.Unpickler):
    def __init__(self, content: bytes, path: Path) -> None:
        super().__init__(io.BytesIO(content))
        self._path = path

    def find_class(self, module: str, name: str) -> type[PickledObject]:
        if (module.partition(".")[0], name) not in CLASSES:
            raise _refusal(self._path, f"it names {module}.{name}, which is not on the list")
        return _stand_in(name)


def read_pickle(path: Path) -> Any:
    """Reads one pickle into plain Python values and records.

    Raises:
        DataError: the file is too large, truncated, no pickle, or uses an opcode or a class that is
            not on the lists above. Nothing that the file names has been imported or called.
    """
    if path.stat().st_size > MAX_BYTES:
        raise _refusal(path, f"it is larger than {MAX_BYTES // 2**20} MiB")
    content = path.read_bytes()
    _check_opcodes(content, path)
    try:
        return _RestrictedUnpickler(content, path).load()
    except DataError:
        raise
    except Exception as problem:  # a malformed pickle can fail in any way
        raise _refusal(path, f"it is damaged ({type(problem).__name__}: {problem})") from None


def _check_opcodes(content: bytes, path: Path) -> None:
    try:
        for opcode, argument, position in pickletools.genops(content):
            if opcode.name not in OPCODES:
                named = "" if argument is None else f" with {str(argument)[:80]!r}"
                raise _refusal(path, f"it uses the opcode {opcode.name}{named} at byte {position}")
    except ValueError as problem:
        raise _refusal(path, f"it is truncated or no pickle ({problem})") from None


def _refusal(path: Path, reason: str) -> DataError:
    return DataError(
        f"{path} is refused: {reason}. A pickled dataset holds only numpy arrays, pandas frames "
        "and pymatgen structures. Nothing in it was executed. Fetch the file again, or write the "
        "data in another form: JSON lines, or CIF files and a CSV."
    )
