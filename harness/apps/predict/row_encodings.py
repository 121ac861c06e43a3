"""Rows of structures, encoded: each crystal once for all backbones that encode crystals alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from harness.errors import CannotEncode, HarnessError
from harness.nn.encodings import identity

if TYPE_CHECKING:
    from harness.apps.predict.ensemble import Encoder
    from harness.data.structure_files import StructureRow
    from harness.plugin.arrays import Arrays

Thing = TypeVar("Thing")
Found = TypeVar("Found")


class RowEncodings:
    """The encodings of some rows; several bundles that are asked about them share it."""

    def __init__(self, rows: Sequence[StructureRow]) -> None:
        self._crystals = {n: row.crystal for n, row in enumerate(rows) if row.crystal is not None}
        self._encoded: dict[str, dict[int, Arrays]] = {}
        self._failed: dict[str, dict[int, str]] = {}

    def encode(self, encoder: Encoder, name: str, reasons: list[str]) -> dict[int, Arrays]:
        """Returns the encodings that a backbone needs, by the number of the row.

        Args:
            encoder: one whose backbone encodes as another's is given the same.
            name: what it is called in reasons.
            reasons: of all rows; what has one is passed over, what fails gets one.
        """
        encoded = self._encoded.setdefault(identity(encoder.backbone), {})
        failed = self._failed.setdefault(identity(encoder.backbone), {})
        wanted = {n: crystal for n, crystal in self._crystals.items() if not reasons[n]}
        fresh = {n: c for n, c in wanted.items() if n not in encoded and n not in failed}
        for numbers, found in sort_out(fresh, encoder.encode, failed):
            for number, one in zip(numbers, found, strict=True):
                if isinstance(one, CannotEncode):
                    failed[number] = f"{name} cannot encode it: {one}"
                else:
                    encoded[number] = one
        for number in wanted.keys() & failed.keys():
            reasons[number] = failed[number]
        return {number: encoded[number] for number in wanted if number in encoded}


def sort_out(
    things: Mapping[int, Thing],
    work: Callable[[Sequence[Thing]], Found],
    reasons: list[str] | dict[int, str],
) -> Iterator[tuple[list[int], Found]]:
    """Does some work for all rows together; where it fails, halves find the row that did it.

    Whatever a structure does to a backbone costs itself only: what was raised is its reason.

    Args:
        things: what to work on, by the number of the row.
        work: for several of them.
        reasons: by the number of the row; that of a row which fails is filled in.

    Yields:
        Numbers of rows, and what the work for them came to.
    """
    if not things:
        return
    numbers = list(things)
    try:
        found = work(list(things.values()))
    except Exception as problem:
        if len(numbers) == 1:
            reasons[numbers[0]] = _in_one_line(problem)
            return
        middle = len(numbers) // 2
        for half in (numbers[:middle], numbers[middle:]):
            yield from sort_out({number: things[number] for number in half}, work, reasons)
    else:
        yield numbers, found


def _in_one_line(problem: Exception) -> str:
    text = "; ".join(filter(None, map(str.strip, str(problem).splitlines())))
    return text if isinstance(problem, HarnessError) else f"{type(problem).__name__}: {text}"
