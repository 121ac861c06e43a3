"""Optuna studies: the samplers, pruners and storages that a benchmark may name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.plugin import hookimpl

if TYPE_CHECKING:
    from optuna import Study

    from harness.plugin import StudyRequest


@hookimpl(trylast=True)
def make_study(request: StudyRequest) -> Study | None:
    """Answers what no other plugin has answered."""
    from harness_optuna.studies import open_study

    return open_study(request)
