"""Labels: short, unique, made of what differs; those of a benchmark go before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import BenchmarkError
from harness.planning.labels import configuration_of, find_labelled, make_labels
from harness.plugin.cell import DEFAULT

Cell = dict[str, str]


def cell(backbone: str, head: str, transfer: str, protocol: str = "strict") -> Cell:
    return {
        "backbone": backbone,
        "head": head,
        "transfer": transfer,
        "tuning": DEFAULT,
        "protocol": protocol,
    }


STRICT = [
    cell("composition", "nearest", "baseline"),
    cell("composition(features=elements)", "random-forest", "baseline"),
    cell("megnet", "mlp(hidden=450-350-350)", "scratch"),
    cell("megnet", "mlp(hidden=450-350-350)", "two-stage(source=AFLOW)"),
    cell("megnet", "mlp(hidden=450-350-350)", "frozen"),
    cell("megnet", "mlp(hidden=450-350-350)", "frozen(source=AFLOW, layers=2)"),
    cell("descriptors", "gp", "fixed"),
    cell("chgnet", "gp", "fixed"),
    cell("chgnet", "gp(length_scales=blocks)", "fixed"),
    cell("committee", "all of them", "committee"),
]


def labels_of(cells: list[Cell], **given: str) -> list[str]:
    return list(
        make_labels(cells, {name.replace("_", " "): text for name, text in given.items()}).values()
    )


def test_a_label_says_what_differs_and_no_more() -> None:
    assert labels_of(STRICT) == [
        "nearest",
        "random-forest",
        "megnet scratch",
        "megnet two-stage",
        "megnet frozen",
        "megnet frozen (AFLOW, layers=2)",
        "descriptors gp",
        "chgnet gp",
        "chgnet gp (length_scales=blocks)",
        "all of them",
    ]


def test_a_protocol_is_said_where_there_are_several() -> None:
    both = [cell("megnet", "mlp", "scratch", name) for name in ("strict", "published [true]")]
    assert labels_of(both) == ["strict", "published [true]"]


def test_a_given_label_goes_before() -> None:
    found = labels_of(STRICT, Learnt_twice="transfer=two-stage", GP="backbone=descriptors")
    assert found[3] == "Learnt twice"
    assert found[6] == "GP"
    assert found[2] == "megnet scratch"


def test_a_given_label_is_told_by_protocol_where_there_are_several() -> None:
    both = [cell("megnet", "mlp", "scratch", name) for name in ("strict", "k-fold")]
    assert labels_of(both, Mine="backbone=megnet") == ["Mine strict", "Mine k-fold"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("head=gp", "several configurations"),
        ("backbone=chgnet, head=nearest", "no configuration"),
        ("backbone=chegnet", "Did you mean 'chgnet'"),
        ("colour=blue", "no column 'colour'"),
    ],
)
def test_a_label_of_none_or_of_several_is_refused(text: str, told: str) -> None:
    with pytest.raises(BenchmarkError, match=told):
        labels_of(STRICT, Mine=text)


def test_two_configurations_are_not_called_the_same() -> None:
    with pytest.raises(BenchmarkError, match="names two configurations"):
        labels_of(STRICT, chgnet_gp="backbone=descriptors")


def test_a_configuration_is_found_by_label_or_by_conditions() -> None:
    labels = make_labels(STRICT, {})
    assert find_labelled("descriptors gp", labels) == configuration_of(STRICT[6])
    assert find_labelled("backbone=descriptors", labels) == configuration_of(STRICT[6])
    with pytest.raises(BenchmarkError, match="Did you mean 'descriptors gp'"):
        find_labelled("descriptors pg", labels)
    with pytest.raises(BenchmarkError, match=r"Several configurations meet .*: chgnet gp, chgnet"):
        find_labelled("backbone=chgnet", labels)


NAMES = st.sampled_from(["megnet", "chgnet", "composition(features=elements)", "composition"])
HEADS = st.sampled_from(["gp", "mlp", "mlp(hidden=8)", "mlp(hidden=8, dropout=0.1)", "nearest"])
TRANSFERS = st.sampled_from(["scratch", "fixed", "baseline", "frozen", "frozen(source=AFLOW)"])
CELLS = st.lists(st.builds(cell, NAMES, HEADS, TRANSFERS), min_size=1, max_size=12)


@given(CELLS)
def test_all_labels_differ_and_none_is_empty(cells: list[Cell]) -> None:
    labels = make_labels(cells, {})
    assert set(labels) == {configuration_of(one) for one in cells}
    assert len(set(labels.values())) == len(labels)
    assert all(labels.values())


@given(CELLS)
def test_every_configuration_is_found_by_its_label(cells: list[Cell]) -> None:
    labels = make_labels(cells, {})
    assert all(find_labelled(label, labels) == own for own, label in labels.items())
