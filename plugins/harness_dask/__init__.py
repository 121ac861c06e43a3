"""The executor `dask`: trials, stages, encodings and predictions on Dask; needs that extra."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.plugin import ExecutorError, hookimpl

if TYPE_CHECKING:
    from harness.plugin import Executor, ExecutorRequest


@hookimpl(trylast=True)
def make_executor(request: ExecutorRequest) -> Executor | None:
    """Connects to a scheduler, or starts a cluster."""
    if request.name != "dask":
        return None
    try:
        from harness_dask.executor import DaskExecutor
    except ModuleNotFoundError as problem:
        raise ExecutorError(
            f"The executor 'dask' needs the module {problem.name!r}: install the extra `dask`, as "
            "by pip install 'paraisite-harness[dask]'."
        ) from problem
    return DaskExecutor(request)
