"""What a submission holds besides the records of its results: card, paths, columns of tables."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from harness.results.records import Line
from harness.results.store import SPREAD_COLUMNS

Text = Annotated[str, Field(min_length=1)]

CARD_FILE, MANIFEST_FILE = "method.toml", "submission.json"
ALLOWED = re.compile(
    r"method\.toml|plan\.json|results\.jsonl|(predictions|tuning)/[0-9a-f]{16}\.parquet"
    r"|stages/[0-9a-f]{16}/(stage\.json|ledger\.parquet)"
)
"""Paths that a submission consists of besides its manifest; nothing that could be executed."""


class MethodCard(BaseModel):
    """The card of a method, `method.toml`.

    Attributes:
        name: of the submission, as tables show it.
        title: of the method, one line.
        authors: who submits it.
        summary: what it does, and what a reader must know before comparing.
        licence: of the results.
        url, code, citation, contact: where there are any.
        hardware: what it was trained on.
        notes: anything else.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$")
    title: Line
    authors: Annotated[list[Line], Field(min_length=1)]
    summary: Text
    licence: Line
    url: str = ""
    code: str = ""
    citation: str = ""
    contact: str = ""
    hardware: str = ""
    notes: str = ""


CARD_EXAMPLE = """\
name = "my-method"
title = "What it is, in one line"
authors = ["A. Author"]
summary = "What it does, and what a reader must know before comparing."
licence = "CC-BY-4.0"
"""


PREDICTION_TYPES = {
    "run": "integer",
    "part": "string",
    "id": "string",
    "role": "string",
    "target": "floating",
    "overlap": "boolean",
    "prediction": "floating",
}
OPTIONAL_TYPES = dict.fromkeys(SPREAD_COLUMNS.values(), "floating")
LEDGER_TYPES = {
    "run": "integer",
    "part": "string",
    "id": "string",
    "group": "string",
    "role": "string",
}
