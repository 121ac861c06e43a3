"""What one process carries out a plan with: made once, and handed down whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.planning.plan import Plan
    from harness.registry.registry import Registry
    from harness.remote.executor_session import ExecutorSession
    from harness.results.store import Store
    from harness.training.stop_signal import StopSignal


@dataclass(frozen=True, eq=False)
class RunContext:
    """A plan, and what its stages and trials are carried out with.

    Attributes:
        plan: what is to be done.
        store: where artefacts and results go.
        registry: for plugins, and the observers of this process.
        stop: whether to end before all is done.
        elsewhere: what carries out stages and trials in the place of this process.
    """

    plan: Plan
    store: Store
    registry: Registry
    stop: StopSignal
    elsewhere: ExecutorSession | None = field(default=None, kw_only=True)

    def tell(self, hook: str, event: object) -> None:
        """Tells every observer of this process."""
        self.registry.tell(hook, event)
