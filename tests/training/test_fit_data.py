"""The order in which rows are taken: every pass whole, and the same whoever is in the stack."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.plugin.protocol import Scaler
from harness.training.fit_data import Feed, TaskData

CPU = torch.device("cpu")
SIZES = st.lists(st.integers(1, 30), min_size=1, max_size=4)


class Empty:
    def __len__(self) -> int:
        return 40

    def batch(self, rows: np.ndarray) -> np.ndarray:
        return rows


def feed(sizes: Sequence[int], batch_size: int) -> Feed:
    """Member m has the rows m … m + sizes[m] − 1, and the seed m."""
    members = len(sizes)
    data = TaskData(
        pool=Empty(),
        train=[np.arange(m, m + n) for m, n in enumerate(sizes)],
        labels=np.ones((members, 40)),
        scalers=[Scaler(0.0, 0.0, 1.0)] * members,
        seeds=list(range(members)),
    )
    return Feed(data, batch_size, CPU)


@given(own=SIZES, batch_size=st.integers(1, 9), epoch=st.integers(0, 5))
def test_a_pass_has_every_row_of_every_training_member_once(own, batch_size, epoch) -> None:
    training = [m for m in range(len(own)) if m != 1]
    rows = feed(own, batch_size).one_pass(epoch, training)
    assert rows.shape[1] % batch_size == 0
    for member, size in enumerate(own):
        taken = sorted(rows[member][rows[member] >= 0])
        assert taken == (list(range(member, member + size)) if member in training else [])


@given(own=SIZES, other=st.integers(1, 30), batch_size=st.integers(1, 9))
def test_passes_over_the_other_dataset_follow_one_another_across_epochs(
    own, other, batch_size
) -> None:
    steps = [-(-size // batch_size) for size in own]
    first, second = feed(own, batch_size), feed([other] * len(own), batch_size)
    everyone = range(len(own))
    taken = [second.beside(first.one_pass(epoch, everyone), epoch, steps) for epoch in range(4)]
    for member, count in enumerate(steps):
        stream = np.concatenate([rows[member][rows[member] >= 0] for rows in taken])
        assert len(stream) == 4 * count * batch_size
        for start in range(0, len(stream) - other + 1, other):
            part = stream[start : start + other]
            assert sorted(part) == list(range(member, member + other))


@given(own=SIZES, other=st.integers(1, 30), batch_size=st.integers(1, 9))
def test_the_order_of_a_member_depends_on_no_other_member(own, other, batch_size) -> None:
    steps = [-(-size // batch_size) for size in own]
    rows = feed(own, batch_size).one_pass(2, range(len(own)))
    beside = feed([other] * len(own), batch_size).beside(rows, 2, steps)
    alone = feed(own[:1], batch_size).one_pass(2, [0])
    alone_beside = feed([other], batch_size).beside(alone, 2, steps[:1])
    for whole, single in ((rows, alone), (beside, alone_beside)):
        assert whole[0][whole[0] >= 0].tolist() == single[0][single[0] >= 0].tolist()


def test_a_member_that_has_stopped_takes_no_rows_of_the_other_dataset() -> None:
    rows = feed([5, 9], 4).one_pass(0, [1])
    beside = feed([7, 7], 4).beside(rows, 0, [2, 3])
    assert (beside[0] == -1).all()
    assert (beside[1] >= 0).sum() == 12
