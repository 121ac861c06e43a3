"""The distance from the training data: its scale, and what is near and what is far."""

from __future__ import annotations

import numpy as np
import pytest

from harness.apps.predict.applicability import FAR, Neighbourhood


@pytest.fixture
def training() -> list[np.ndarray]:
    """Three members, each with rows and a scale of its own."""
    random = np.random.default_rng(0)
    return [random.normal(size=(rows, 4)) * 10.0**k for k, rows in enumerate((200, 150, 300))]


def brute_force(rows: np.ndarray) -> np.ndarray:
    distance = np.linalg.norm(rows[:, None] - rows[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    return distance.min(axis=1)


def test_the_scale_is_a_percentile_of_leave_one_out_distances(training) -> None:
    scales = Neighbourhood.of(training).scales
    for scale, rows in zip(scales, training, strict=True):
        assert scale == pytest.approx(np.percentile(brute_force(rows), 99), rel=1e-3)


def test_training_rows_are_near_and_the_scale_of_a_member_does_not_matter(training) -> None:
    neighbourhood = Neighbourhood.of(training)
    own = neighbourhood.distances([rows[:50].astype(np.float32) for rows in training])
    assert own.max() < 0.01
    moved = [(rows[:50] * 0 + 5 * 10.0**k).astype(np.float32) for k, rows in enumerate(training)]
    assert (neighbourhood.distances(moved) > FAR).all()


def test_the_median_member_decides(training) -> None:
    neighbourhood = Neighbourhood.of(training)
    near = [rows[:1].astype(np.float32) for rows in training]
    far = [row + 1000 * 10.0**k for k, row in enumerate(near)]
    assert neighbourhood.distances([far[0], near[1], near[2]])[0] < FAR
    assert neighbourhood.distances([far[0], near[1], far[2]])[0] > FAR


def test_twins_and_single_rows_do_no_harm() -> None:
    twins = Neighbourhood.of([np.ones((5, 3)), np.ones((1, 3))])
    same, other = (np.full((1, 3), value, np.float32) for value in (1, 2))
    assert twins.distances([same, same])[0] == 0
    assert twins.distances([other, other])[0] > FAR
