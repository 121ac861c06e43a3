"""A name selects what it stands for, or the error says what there is."""

from __future__ import annotations

import pytest

from harness.errors import BenchmarkError
from harness.planning.selectors import expand_only, find_one_each, find_values

CELLS = [
    {"backbone": backbone, "transfer": transfer}
    for backbone, transfer in (
        ("composition", "baseline"),
        ("composition(features=elements)", "scratch"),
        ("megnet", "two-stage(source=A)"),
        ("megnet", "two-stage(source=B)"),
    )
]


def test_a_name_alone_selects_all_of_its_settings() -> None:
    assert find_values("transfer", "two-stage", CELLS) == [
        "two-stage(source=A)",
        "two-stage(source=B)",
    ]
    assert len(find_values("backbone", "composition", CELLS)) == 2


def test_a_name_in_full_selects_itself() -> None:
    assert find_values("transfer", "two-stage(source=B)", CELLS) == ["two-stage(source=B)"]
    assert find_values("backbone", "composition()", CELLS) == ["composition"]


def test_a_filter_keeps_every_alternative() -> None:
    kept = expand_only({"transfer": ["two-stage", "scratch"]}, CELLS)
    assert kept == {"transfer": ["two-stage(source=A)", "two-stage(source=B)", "scratch"]}


def test_of_several_settings_the_one_that_fits_the_rest_is_meant() -> None:
    named = {"backbone": "composition", "transfer": "scratch"}
    assert find_one_each(named, CELLS)["backbone"] == "composition(features=elements)"


def test_of_several_settings_the_one_named_in_full_is_meant() -> None:
    assert find_one_each({"backbone": "composition"}, CELLS) == {"backbone": "composition"}


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ({"transfer": "two-stage"}, r"two-stage\(source=A\), two-stage\(source=B\)"),
        ({"transfer": "two-stge"}, "Did you mean 'two-stage'"),
        ({"transfr": "scratch"}, "Did you mean 'transfer'"),
        ({"backbone": "megnet", "transfer": "scratch"}, "all of backbone=megnet, transfer=scratch"),
    ],
)
def test_an_error_lists_what_there_is(named: dict[str, str], told: str) -> None:
    with pytest.raises(BenchmarkError, match=told):
        find_one_each(named, CELLS)
