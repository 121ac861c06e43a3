"""How far the stages of a run are, counted as observers are told of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.planning.plan import StageNode


class Tally:
    """Stages that are wanted, under way and done, by their number and by the work in them.

    Attributes:
        total: stages that are wanted.
    """

    def __init__(self, stages: Iterable[StageNode] = ()) -> None:
        self.total = 0
        self._work, self._work_done = 0, 0
        self._under_way: dict[str, float] = {}
        self._over: set[str] = set()
        self.want(stages)

    @property
    def done(self) -> int:
        """Stages that are over."""
        return len(self._over)

    def want(self, stages: Iterable[StageNode]) -> None:
        """Counts further stages."""
        for stage in stages:
            self.total += 1
            self._work += stage.work

    def reach(self, stage: StageNode, share: float) -> float:
        """Notes how far a stage is; returns the share of all work that is done."""
        self._under_way[stage.key] = share * stage.work
        done = self._work_done + sum(list(self._under_way.values()))
        return min(done / (self._work or 1), 1.0)

    def finish(self, stage: StageNode) -> None:
        """Counts a stage as over, once."""
        if stage.key not in self._over:
            self._over.add(stage.key)
            self._work_done += stage.work
            self._under_way.pop(stage.key, None)
