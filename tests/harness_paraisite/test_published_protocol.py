"""The protocol `published` does exactly what the study's scripts do, distortion on demand."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from harness.plugin import DataError, Scaler, read_neutral
from harness_paraisite import register_protocols

(SPEC,) = register_protocols()


def rules(**settings):
    return SPEC.make(SPEC.settings(**settings))


def kappa_of(shared, name):
    rows = read_neutral(shared / f"data/{name}.jsonl.gz")
    return np.array([row["kappa"] for row in rows])


def test_the_first_int_80_percent_of_the_permutation_train():
    split = rules().split(["NaCl"] * 95, run=1, seed=0)
    order = np.random.RandomState(1).permutation(95)

    assert len(split.train) == 76
    assert split.train.tolist() == order[:76].tolist()
    assert split.validation.tolist() == order[76:].tolist()


def test_a_small_split_written_out():
    split = rules().split(["NaCl"] * 6, run=1, seed=0)

    assert split.train.tolist() == [2, 1, 4, 0]
    assert split.test.tolist() == [3, 5]


@pytest.mark.parametrize(("rows", "train"), [(95, 76), (143, 114), (5578, 4462), (2, 1)])
def test_validation_rows_are_the_test_rows_and_nothing_is_lost(rows, train):
    split = rules().split(["NaCl"] * rows, run=9, seed=0)

    assert split.validation.tolist() == split.test.tolist()
    assert len(split.train) == train
    assert sorted([*split.train, *split.test]) == list(range(rows))


def test_runs_differ_and_the_seed_does_not_matter():
    first, again, other = (
        rules().split(["NaCl"] * 95, run=run, seed=seed) for run, seed in [(1, 0), (1, 5), (2, 0)]
    )

    assert first.train.tolist() == again.train.tolist()
    assert first.train.tolist() != other.train.tolist()


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_rows_are_an_error(rows):
    with pytest.raises(DataError, match="needs at least 2"):
        rules().split(["NaCl"] * rows, run=1, seed=0)


def test_the_scaler_sees_every_row_in_file_order():
    split = rules().split(["NaCl"] * 95, run=3, seed=0)

    assert rules().scaler_rows(split).tolist() == list(range(95))


def test_the_defects_are_declared():
    assert rules().leak_free is False
    assert rules().selection == "mape"
    assert rules().offset == 1.0
    assert rules().scaler_stage == "first"


def test_the_view_is_true_unless_asked_for():
    assert rules().view == "true"
    assert rules(label_view="as-published").view == "as-published"
    with pytest.raises(ValidationError):
        rules(label_view="published")


DATASET1 = Scaler(offset=1.0, mean=1.44, std=0.754)
DATASET2 = Scaler(offset=1.0, mean=0.94, std=0.244)


def test_true_labels_are_untouched():
    kappa = np.array([0.5, 19.9, 1769.0])

    assert rules().labels(kappa, DATASET1, DATASET2) is kappa


def test_published_labels_are_decoded_with_the_wrong_scaler():
    labels = rules(label_view="as-published").labels(np.array([19.9, 9.0]), DATASET1, DATASET2)

    # 19.9: log10(20.9) = 1.320146; (1.320146 − 1.44)/0.754 = −0.158957;
    #       10^(−0.158957·0.244 + 0.94) − 1 = 10^0.901214 − 1 = 6.9655
    #  9.0: (1 − 1.44)/0.754 = −0.583554; 10^(0.797613) − 1 = 5.2750
    assert labels == pytest.approx([6.9655, 5.2750], abs=2e-4)


def test_published_labels_are_exact_where_the_scaler_is_the_right_one():
    kappa = np.array([0.1, 19.9, 1769.0012100965014])

    labels = rules(label_view="as-published").labels(kappa, DATASET1, Scaler(1.0, 1.44, 0.754))

    assert labels.tolist() == kappa.tolist()


def test_the_distortion_compresses_dataset1_when_training_was_on_dataset2(shared):
    own, other = kappa_of(shared, "Dataset1"), kappa_of(shared, "Dataset2")
    scaler, decoder = Scaler.fit(own, 1.0), Scaler.fit(other, 1.0)

    labels = rules(label_view="as-published").labels(own, scaler, decoder)

    assert scaler.mean == pytest.approx(1.439956, abs=1e-6)
    assert scaler.std == pytest.approx(0.754053, abs=1e-6)
    assert decoder.mean == pytest.approx(0.939875, abs=1e-6)
    assert decoder.std == pytest.approx(0.243855, abs=1e-6)
    assert own.max() == pytest.approx(1769.0, abs=0.01)
    # (log10(1770) − 1.439956)/0.754053 = 2.39773; 10^(2.39773·0.243855 + 0.939875) − 1 = 32.46:
    # a crystal of 1769 W/(m·K) is scored as if it had 32
    assert labels.max() == pytest.approx(32.46, abs=0.01)
    assert (np.argsort(labels) == np.argsort(own)).all()
