"""Conformance cases for authors of plugins: a spec goes in, what it promises is tried.

    import pytest
    from harness.testing import HeadCases

    class TestMyHead(HeadCases):
        settings = {"hidden": [8]}

        @pytest.fixture
        def spec(self):
            return my_head

`harness plugins check NAME` runs the same cases. Nothing here needs pytest, and nothing loads torch
before a case that needs it runs.
"""

from harness.apps.testing.backbones import BackboneCases
from harness.apps.testing.datasets import DatasetCases
from harness.apps.testing.executors import ExecutorCases
from harness.apps.testing.heads import HeadCases
from harness.apps.testing.metrics import MetricCases
from harness.apps.testing.promises import BrokenPromise
from harness.apps.testing.properties import PropertyCases
from harness.apps.testing.protocols import ProtocolCases
from harness.apps.testing.transfers import TransferCases

__all__ = [
    "BackboneCases",
    "BrokenPromise",
    "DatasetCases",
    "ExecutorCases",
    "HeadCases",
    "MetricCases",
    "PropertyCases",
    "ProtocolCases",
    "TransferCases",
]
