"""What a worker of a local cluster does at its start; Dask imports it there by its name."""

from __future__ import annotations

import signal


def dask_setup(worker: object) -> None:
    """Leaves Ctrl-C, which a terminal sends to every process, to the one that ends the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
