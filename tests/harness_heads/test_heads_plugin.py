"""The plugin: what it loads, what it asks for, and what a search may vary."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from harness_heads import register_heads

HEADS: Any = {spec.name: spec for spec in register_heads()}


def test_the_plugin_loads_no_library_before_a_head_is_made() -> None:
    code = (
        "import sys, harness_heads as h; h.register_heads(); "
        "assert not {'torch', 'sklearn', 'optuna', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_search_varies_depth_width_and_activation_of_the_perceptron() -> None:
    space = HEADS["mlp"].space
    assert set(space.parameters) == {"layers", "width", "activation", "dropout"}
    settled = space.settle({"layers": 3, "width": 64, "activation": "silu", "dropout": 0.2})
    assert HEADS["mlp"].settings(**settled).hidden == (64, 64, 64)
    assert HEADS["mlp"].settings(**settled).activation == "silu"
    assert HEADS["mlp"].settings(**settled).dropout == 0.2


def test_a_search_varies_the_kernel_of_the_gaussian_process() -> None:
    found = {name: set(choice.values) for name, choice in HEADS["gp"].space.items()}
    assert found == {"kernel": {"matern", "rbf"}, "length_scales": {"shared", "blocks"}}
