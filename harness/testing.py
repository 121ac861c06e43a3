"""Conformance cases for authors of plugins: the door to `harness.apps.testing`."""

from harness.apps.testing import (
    BackboneCases,
    BrokenPromise,
    DatasetCases,
    HeadCases,
    MetricCases,
    ProtocolCases,
    TransferCases,
)

__all__ = [
    "BackboneCases",
    "BrokenPromise",
    "DatasetCases",
    "HeadCases",
    "MetricCases",
    "ProtocolCases",
    "TransferCases",
]
