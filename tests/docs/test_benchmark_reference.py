"""The page on the benchmark file says what such files are read by, and of every key."""

from __future__ import annotations

import re

import pytest

from benchmark_reference import CLOSED_FORM, PAGE, TABLES, Table, describe_type, render_reference
from harness import Registry
from harness.api.docs_pages import read_page


def rows(title: str) -> dict[str, list[str]]:
    """The lines of a table of the page by key: what is expected, the default, the meaning."""
    found = re.search(
        rf"^##+ {re.escape(title)}$\n(.*?)(?=^##|\Z)",
        read_page("benchmark-file"),
        re.MULTILINE | re.DOTALL,
    )
    assert found, f"no section {title!r}"
    cells = (re.split(r"(?<!\\)\|", line)[1:-1] for line in found[1].splitlines() if "| `" in line)
    return {key.strip(" `"): [text.strip() for text in texts] for key, *texts in cells}


def test_the_page_is_what_the_source_gives() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_reference(), "run `make docs`"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.model.__name__)
def test_every_key_of_a_table_is_explained(table: Table) -> None:
    found = rows(table.title)
    assert list(found) == list(table.model.model_fields)
    assert all(expected and len(meaning) > 3 for expected, _, meaning in found.values())


@pytest.mark.parametrize("kind", ["backbones", "heads", "transfers", "protocols"])
def test_every_setting_of_what_is_built_in_is_explained(kind: str) -> None:
    registry = Registry()
    for name, spec in getattr(registry, kind).items():
        assert list(rows(f"`{name}`")) == list(spec.settings.model_fields), name


def test_heads_in_closed_form_say_what_they_may_be_fitted_on() -> None:
    assert rows("Heads, and baselines")["fit_on"][:2] == [
        '`"train"` or `"train+validation"`',
        '`"train"`',
    ]
    page = read_page("benchmark-file")
    for name, spec in Registry().heads.items():
        about = page.partition(f"### `{name}`")[2].partition("###")[0]
        assert (CLOSED_FORM in about) == (spec.fit is not None), name


@pytest.mark.parametrize(
    ("title", "key", "expected", "default"),
    [
        ("At the top of the file", "train_on", "list: text", "must be given"),
        ("At the top of the file", "runs", "whole number ≥ 1, ≤ 10,000", "`9`"),
        ("At the top of the file", "protocols", "list: name, or table", '`["strict"]`'),
        ("`[training]`, `[training_on.DATASET]`", "lr", "number > 0", "`0.001`"),
        ("`[tuning]`", "selection", '`"per-run"` or `"shared"`', '`"per-run"`'),
        ("`two-stage`", "source", "text or list: text", "must be given"),
        ("`megnet`", "collapse", "`true` or `false`", "`true`"),
    ],
)
def test_limits_and_defaults_are_in_the_words_of_such_a_file(
    title: str, key: str, expected: str, default: str
) -> None:
    assert rows(title)[key][:2] == [expected, default]


def test_what_has_no_words_is_an_error_and_not_a_blank() -> None:
    with pytest.raises(ValueError, match="no words for"):
        describe_type({"type": "tensor"}, {})
