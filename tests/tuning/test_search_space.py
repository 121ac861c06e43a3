"""Ranges and choices become the distributions of Optuna that searches have been made with.

A study that is resumed must see equal distributions, and its name depends on how they are written.
"""

from __future__ import annotations

from optuna.distributions import CategoricalDistribution as Categorical
from optuna.distributions import FloatDistribution as Float
from optuna.distributions import IntDistribution as Int

from harness.planning.training_settings import training_space
from harness.plugin.ranges import SearchSpace, Space, read_parameter
from harness.registry.registry import Registry
from harness.tuning.search_space import distribution_of
from harness_properties import KAPPA

MEGNET = {"blocks": Int(1, 4), "readout_steps": Int(1, 3)}

SEARCHED = {
    "megnet": MEGNET,
    "megnet-dgl": MEGNET,
    "m3gnet": {
        "units": Categorical((32, 64, 128)),
        "blocks": Int(1, 4),
        "readout": Categorical(("weighted_atom", "set2set", "reduce_atom")),
    },
    "tensornet": {
        "units": Categorical((16, 32, 64)),
        "blocks": Int(1, 3),
        "gaussians": Categorical((16, 32, 64)),
        "readout": Categorical(("weighted_atom", "reduce_atom")),
    },
    "mlp": {
        "layers": Int(1, 4),
        "width": Int(16, 512, log=True),
        "activation": Categorical(("relu", "softplus", "silu")),
        "dropout": Float(0.0, 0.5, step=0.1),
    },
    "gp": {
        "kernel": Categorical(("matern", "rbf")),
        "length_scales": Categorical(("shared", "blocks")),
    },
    "descriptors": {"features": Categorical(("plain", "magpie", "both"))},
    "boosting": {
        "trees": Int(100, 1000, log=True),
        "learning_rate": Float(0.01, 0.3, log=True),
        "depth": Int(2, 6),
        "leaf_rows": Int(1, 20, log=True),
        "rows_share": Float(0.4, 1.0),
        "features_share": Float(0.1, 1.0),
    },
    "frozen": {"layers": Int(1, 8)},
    "gradual-unfreeze": {"until": Float(0.1, 0.9)},
    "layerwise-lr": {"decay": Float(0.3, 1.0)},
    "l2-sp": {"strength": Float(1e-4, 1.0, log=True)},
    "bitfit": {"lr_factor": Float(0.3, 10.0, log=True)},
    "lora": {"rank": Int(1, 16, log=True), "alpha": Float(1.0, 64.0, log=True)},
    "joint": {"source_weight": Float(0.03, 3.0, log=True)},
}
"""By name of the backbone, head or transfer strategy, then by parameter."""

TRAINING = {
    "lr": Float(1e-4, 1e-2, log=True),
    "weight_decay": Float(1e-6, 1e-2, log=True),
    "batch_size": Categorical((8, 16, 32)),
    "loss": Categorical(("mae-log", "huber", "mse")),
    "schedule": Categorical(("cosine", "constant")),
    "cosine_period_epochs": Float(100.0, 1000.0, log=True),
}

IN_FILES = [
    ({"low": 200, "high": 1000, "log": True}, Int(200, 1000, log=True)),  # leaderboards/tuned
    ({"low": 1, "high": 4}, Int(1, 4)),  # leaderboards/head-study
    ([16, 32, 64, 128, 256, 450], Categorical((16, 32, 64, 128, 256, 450))),
    ({"low": 0, "high": 0.5}, Float(0, 0.5)),
    ({"low": 0, "high": 1, "step": 0.1}, Float(0, 1, step=0.1)),
    ({"low": 2, "high": 8, "step": 2}, Int(2, 8, step=2)),
]


def distributions(space: Space | None) -> dict[str, object]:
    return {name: distribution_of(own) for name, own in SearchSpace.of(space).parameters.items()}


def test_searches_of_built_in_plugins_are_what_they_were() -> None:
    registry = Registry()
    declared = {
        name: distributions(spec.space)
        for catalog in (registry.backbones, registry.heads, registry.transfers)
        for name, spec in catalog.items()
        if spec.space is not None
    }
    assert declared == SEARCHED
    assert {name: repr(own) for name, own in declared.items()} == {
        name: repr(own) for name, own in SEARCHED.items()
    }


def test_the_search_for_training_settings_is_what_it_was() -> None:
    declared = distributions(training_space(KAPPA))
    assert declared == TRAINING
    assert repr(declared) == repr(TRAINING)


def test_what_benchmark_files_say_is_what_it_was() -> None:
    for written, meant in IN_FILES:
        parameter = read_parameter(written)
        assert parameter is not None
        found = distribution_of(parameter)
        assert (found, repr(found)) == (meant, repr(meant))
