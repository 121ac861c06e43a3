"""What the page on features shows works as it stands."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.api.docs_pages import read_page
from harness.apps.testing.crystals import sample_crystals
from harness.plugin import CannotEncode, Crystal
from harness.registry.registry import Registry
from harness.testing import BackboneCases


def block(kind: str) -> str:
    """The first block of a kind on the page."""
    found = re.search(rf"^```{kind}\n(.*?)^```$", read_page("features"), re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Any:
    blocks = re.findall(r"^```python\n(.*?)^```$", read_page("features"), re.MULTILINE | re.DOTALL)
    (code,) = (text for text in blocks if text.startswith("# my_features.py"))
    file = tmp_path_factory.mktemp("page") / "my_features.py"
    file.write_text(code)
    return Registry([Path(file)]).backbones["sizes"]


def test_what_a_benchmark_names_is_built_in() -> None:
    named, registry = tomllib.loads(block("toml")), Registry()
    assert set(named["backbones"]) <= set(registry.backbones)
    assert set(named["heads"]) <= set(registry.heads)
    assert all(own["head"] in registry.heads for own in named["baselines"])


def test_a_large_cell_is_refused_with_the_reason(spec: Any) -> None:
    backbone = spec.make(spec.settings())
    assert backbone.encode(sample_crystals()[0])["features"].shape == (3,)
    large = Crystal(np.eye(3) * 30, ("Si",) * 201, np.zeros((201, 3)))
    with pytest.raises(CannotEncode, match="more than 200 atoms in its cell"):
        backbone.encode(large)


class TestPromises(BackboneCases):
    @pytest.fixture
    def spec(self, spec: Any) -> Any:
        return spec
