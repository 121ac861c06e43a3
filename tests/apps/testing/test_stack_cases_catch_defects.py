"""A suite that passes broken plugins is worthless: every defect of a backbone or head is caught."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.apps.testing.runner import run_cases
from harness.plugin import (
    SYMBOLS,
    Backbone,
    BackboneSpec,
    FitRows,
    HeadSpec,
    PretrainedWeights,
    Settings,
    StackedLinear,
    Uncertain,
)
from harness.testing import BackboneCases, HeadCases

WIDTH = 6


@dataclass(frozen=True)
class Defect:
    """A defect, the cases that it makes fail (all of them), and what one of them says."""

    spec: Any
    fails: str
    says: str


def outcomes(cases: Any, spec: Any) -> dict[str, Any]:
    return {result.name.removeprefix("test_"): result for result in run_cases(cases, spec)}


def failing(results: Mapping[str, Any]) -> dict[str, str]:
    return {n: r.message for n, r in results.items() if r.outcome in ("failed", "error")}


# --- a good backbone --------------------------------------------------------------------------


class Features:
    """Packs features; zeros in empty places."""

    def __init__(self, features: Tensor) -> None:
        self.features = features

    def __len__(self) -> int:
        return len(self.features)

    def batch(self, rows: Any) -> Tensor:
        index = torch.as_tensor(rows)
        return self.features[index.clamp(min=0)] * (index >= 0).unsqueeze(-1)


class Network(nn.Module):
    """Two layers."""

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.first = StackedLinear(generators, len(SYMBOLS) + 2, 12)
        self.second = StackedLinear(generators, 12, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))


class Good(Backbone):
    """Element fractions, the volume per atom, and a place for what a defect adds."""

    width = WIDTH
    elements = frozenset(SYMBOLS[:96])
    encoding = "good-1"
    layers = (("first",), ("second",))
    network: type[nn.Module] = Network
    packed: Callable[[Tensor], Any] = Features

    def __init__(self, settings: Settings) -> None:
        pass

    def encode(self, crystal: Any) -> dict[str, Any]:
        features = np.zeros(len(SYMBOLS) + 2, dtype=np.float32)
        for symbol in sorted(crystal.species):
            features[SYMBOLS.index(symbol)] += 1 / len(crystal.species)
        features[-2] = abs(np.linalg.det(crystal.lattice)) / len(crystal.species) / 30
        features[-1] = self.extra(crystal)
        return {"features": features}

    def extra(self, crystal: Any) -> float:
        return 0.5

    def pool(self, encodings: Any, device: Any) -> Any:
        return type(self).packed(torch.as_tensor(np.stack([e["features"] for e in encodings])))

    def build(self, generators: Sequence[torch.Generator]) -> nn.Module:
        return type(self).network(generators)


def backbone(parent: type[Backbone] = Good, **changes: Any) -> BackboneSpec:
    """A spec of the good backbone with some of its attributes changed."""
    return BackboneSpec("toy", "a toy", Settings, type("Changed", (parent,), changes))


def network(forward: Callable[..., Tensor] | None = None, **changes: Any) -> BackboneSpec:
    """The same with another network."""
    changed = {**({"forward": forward} if forward else {}), **changes}
    return backbone(network=type("Changed", (Network,), changed))


def test_a_good_backbone_passes() -> None:
    results = outcomes(BackboneCases(), backbone())
    assert failing(results) == {}
    skipped = {name for name, result in results.items() if result.outcome == "skipped"}
    assert skipped == {
        "search_space_gives_valid_settings",
        "a_fixed_backbone_has_nothing_to_train",
        "pretrained_weights_load",
        "pretrained_embeddings_keep_the_invariances",
        "backbone_can_work_in_other_processes",  # a class made by `type` cannot be pickled
    }


# --- backbones with one defect each -----------------------------------------------------------


def mixed(self: Any, x: Tensor) -> Tensor:
    out = Network.forward(self, x)
    return out + 0.5 * out.mean(0, keepdim=True)


def shared(self: Any, x: Tensor) -> Tensor:
    first, second = self.first, self.second
    h = torch.tanh(x @ first.weight[0] + first.bias[0])
    return h @ second.weight[0] + second.bias[0]


def noisy(self: Any, x: Tensor) -> Tensor:
    return Network.forward(self, x) + 0.1 * torch.rand(1)


def detached(self: Any, x: Tensor) -> Tensor:
    return self.second(torch.tanh(self.first(x)).detach())


def centred(self: Any, x: Tensor) -> Tensor:
    out = Network.forward(self, x)
    return out - 0.5 * out.mean(1, keepdim=True)


def blind(self: Any, x: Tensor) -> Tensor:
    return Network.forward(self, torch.ones_like(x))


def rooted(self: Any, x: Tensor) -> Tensor:
    taken = x.abs().sum(-1, keepdim=True) > 0
    h = torch.tanh(self.first(x)) * taken
    return self.second(h) * taken + h.square().sum(-1, keepdim=True).sqrt()


class Globally(Network):
    """Draws its weights from the global generator."""

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        super().__init__(generators)
        self.second.weight.data = torch.rand(self.second.weight.shape)


class Alike(Network):
    """Every member begins with the same weights."""

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        super().__init__([torch.Generator().manual_seed(0) for _ in generators])


class Scaled(Network):
    """A parameter that all members share."""

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        super().__init__(generators)
        self.first.scale = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.first.scale


class Dead(Network):
    """A parameter that nothing depends on."""

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        super().__init__(generators)
        self.first.dead = nn.Parameter(torch.ones(len(generators), 3))


class Forgetful(Network):
    """A random projection that no weights file remembers."""

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        super().__init__(generators)
        self.projection = torch.stack([torch.rand(WIDTH, WIDTH, generator=g) for g in generators])

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) @ self.projection


class Counting(Network):
    """A running statistic, changed by training even where its layer is frozen."""

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        super().__init__(generators)
        self.first.register_buffer("seen", torch.zeros(len(generators)))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.first.get_buffer("seen").add_(1)
        return super().forward(x)


class NanInEmptyPlaces(Features):
    """Divides by the number of atoms, which is none."""

    def batch(self, rows: Any) -> Tensor:
        return super().batch(rows) / (torch.as_tensor(rows) >= 0).unsqueeze(-1)


class TooLong(Features):
    """Counts one crystal too many."""

    def __len__(self) -> int:
        return super().__len__() + 1


class Overwriting(Features):
    """Changes the rows that it was asked for."""

    def batch(self, rows: Any) -> Tensor:
        batch = super().batch(rows)
        rows[rows < 0] = 0
        return batch


def element_nan(self: Any, crystal: Any) -> float:
    return float("nan") if "Xe" in crystal.species else 0.5


def refusing(self: Any, crystal: Any) -> dict[str, Any]:
    if "Xe" in crystal.species:
        raise KeyError("Xe")
    return Good.encode(self, crystal)


def remembering(self: Any, crystal: Any) -> dict[str, Any]:
    Remembered.calls += 1
    return {**Good.encode(self, crystal), "call": np.array([Remembered.calls])}


class Remembered:
    calls = 0


def vandal(self: Any, crystal: Any) -> dict[str, Any]:
    encoding = Good.encode(self, crystal)
    crystal.frac_coords[:] %= 0.3
    return encoding


def first_site(self: Any, crystal: Any) -> float:
    return SYMBOLS.index(crystal.species[0]) / 20


def number_of_sites(self: Any, crystal: Any) -> float:
    return len(crystal.species) / 5


def direction(self: Any, crystal: Any) -> float:
    return float(crystal.lattice[0, 2] / np.linalg.norm(crystal.lattice[0]))


BACKBONES = {
    "members are averaged": Defect(
        network(mixed),
        "member_in_a_stack_equals_it_alone rows_of_other_members_change_nothing "
        "weights_of_other_members_change_nothing empty_places_do_no_harm",
        "normalisation over the members axis",
    ),
    "members share the weights of the first": Defect(
        network(shared),
        "other_seeds_give_other_weights member_in_a_stack_equals_it_alone "
        "weights_of_other_members_change_nothing gradients_reach_every_parameter",
        "two members give the same output",
    ),
    "weights from the global generator": Defect(
        backbone(network=Globally),
        "weights_come_from_the_generators member_in_a_stack_equals_it_alone",
        "second.weight differ",
    ),
    "every member begins alike": Defect(
        backbone(network=Alike), "other_seeds_give_other_weights", "weights of their own"
    ),
    "double precision": Defect(
        network(lambda self, x: Network.forward(self, x).double()),
        "output_has_its_shape training_overfits_eight_samples frozen_layers_stay "
        "linear_layers_take_adapters",
        "torch.float64",
    ),
    "a parameter without members axis": Defect(
        backbone(network=Scaled),
        "parameters_have_a_members_axis weights_of_other_members_change_nothing "
        "training_overfits_eight_samples frozen_layers_stay",
        "'first.scale' is torch.float32 of shape",
    ),
    "a dead parameter": Defect(
        backbone(network=Dead), "gradients_reach_every_parameter", "'first.dead' is absent"
    ),
    "no gradient for the first layer": Defect(
        network(detached),
        "gradients_reach_every_parameter frozen_layers_stay training_overfits_eight_samples",
        "the gradient of 'first.weight' is absent",
    ),
    "centred over the batch": Defect(
        network(centred),
        "rest_of_the_batch_changes_nothing empty_places_do_no_harm",
        "row 1 of 4, then alone",
    ),
    "more state than weights": Defect(
        backbone(network=Forgetful),
        "saved_weights_give_the_same_output",
        "a fresh stack with the saved weights gives another output",
    ),
    "blind to the crystal": Defect(
        network(blind), "training_overfits_eight_samples", "of that of the best constant"
    ),
    "random numbers in evaluation": Defect(
        network(noisy),
        "output_is_the_same_every_time member_in_a_stack_equals_it_alone "
        "rows_of_other_members_change_nothing weights_of_other_members_change_nothing "
        "rest_of_the_batch_changes_nothing saved_weights_give_the_same_output "
        "empty_places_do_no_harm order_of_sites_does_not_matter "
        "choice_of_cell_does_not_matter rotation_and_origin_do_not_matter "
        "linear_layers_take_adapters",
        "draw no random numbers in evaluation mode",
    ),
    "NaN in empty places": Defect(
        backbone(packed=NanInEmptyPlaces),
        "empty_places_do_no_harm",
        "finite embeddings in empty places",
    ),
    "NaN gradients beside empty places": Defect(
        network(rooted), "empty_places_do_no_harm", "mask before dividing"
    ),
    "a pool that counts wrongly": Defect(
        backbone(packed=TooLong),
        "pool_holds_every_crystal training_overfits_eight_samples frozen_layers_stay "
        "linear_layers_take_adapters",
        "the pool holds 11 crystals",
    ),
    "a pool that changes the rows": Defect(
        backbone(packed=Overwriting),
        "pool_holds_every_crystal empty_places_do_no_harm",
        "leaves the array of rows as it is",
    ),
    "NaN for one element": Defect(
        backbone(extra=element_nan), "declared_elements_work", "not so for Xe"
    ),
    "an element that it does not know": Defect(
        backbone(encode=refusing), "declared_elements_work", "Xe raised KeyError"
    ),
    "an element that does not exist": Defect(
        backbone(elements=frozenset({*SYMBOLS[:96], "Xx"})), "declared_elements_work", "Xx"
    ),
    "encodings that are lists": Defect(
        backbone(encode=lambda self, c: {**Good.encode(self, c), "formula": [c.formula]}),
        "encodings_are_arrays_of_numbers encodings_survive_the_cache "
        "encoding_depends_on_the_crystal_alone crystals_encoded_together_are_as_one_by_one",
        "'formula' is list",
    ),
    "encodings that count calls": Defect(
        backbone(encode=remembering),
        "encoding_depends_on_the_crystal_alone crystals_encoded_together_are_as_one_by_one",
        "call of ClNa",
    ),
    "crystals encoded together get mixed": Defect(
        backbone(encode_all=lambda self, some: [self.encode(c) for c in some[::-1]]),
        "crystals_encoded_together_are_as_one_by_one",
        "keep crystals apart in `encode_all`",
    ),
    "too few encodings": Defect(
        backbone(encode_all=lambda self, some: [self.encode(c) for c in some[1:]]),
        "crystals_encoded_together_are_as_one_by_one encodings_survive_the_cache",
        "a dict of arrays for each of",
    ),
    "a changed crystal": Defect(
        backbone(encode=vandal), "encodings_are_arrays_of_numbers", "work on copies"
    ),
    "the order of sites matters": Defect(
        backbone(extra=first_site), "order_of_sites_does_not_matter", "'permutation' is declared"
    ),
    "the number of cells matters": Defect(
        backbone(extra=number_of_sites), "choice_of_cell_does_not_matter", "'supercell' is declared"
    ),
    "the direction matters": Defect(
        backbone(extra=direction), "rotation_and_origin_do_not_matter", "'motion' is declared"
    ),
    "an unknown invariance": Defect(
        backbone(invariances=frozenset({"supercell", "mirror"})),
        "backbone_says_what_it_is",
        "mirror",
    ),
    "no name for the encoding": Defect(
        backbone(encoding=""), "backbone_says_what_it_is", "names everything that decides"
    ),
    "a parameter in no layer": Defect(
        backbone(layers=(("first",),)), "every_parameter_is_in_one_layer", "'second.weight' is in 0"
    ),
    "a parameter in two layers": Defect(
        backbone(layers=(("first",), ("second", "second.bias"))),
        "every_parameter_is_in_one_layer",
        "'second.bias' is in 2",
    ),
    "a layer that does not exist": Defect(
        backbone(layers=(("first",), ("second",), ("third",))),
        "every_parameter_is_in_one_layer frozen_layers_stay",
        "'third' names none",
    ),
    "a frozen layer moves": Defect(
        backbone(network=Counting),
        "frozen_layers_stay linear_layers_take_adapters",
        "backbone.first.seen moved",
    ),
}


@pytest.mark.parametrize("defect", BACKBONES.values(), ids=BACKBONES)
def test_a_defect_of_a_backbone_is_caught(defect: Defect) -> None:
    cases = BackboneCases()
    cases.overfit_epochs = 100
    broken = failing(outcomes(cases, defect.spec))
    assert set(broken) == set(defect.fails.split())
    assert any(re.search(defect.says, message) for message in broken.values()), broken


def test_what_is_not_declared_is_not_asked() -> None:
    results = outcomes(BackboneCases(), backbone(extra=first_site, invariances=frozenset()))
    assert failing(results) == {}
    assert results["order_of_sites_does_not_matter"].outcome == "skipped"


def test_a_backbone_without_parameters_passes() -> None:
    bare = backbone(width=len(SYMBOLS) + 2, layers=(), build=lambda self, generators: nn.Identity())
    results = outcomes(BackboneCases(), bare)
    assert failing(results) == {}
    assert results["training_overfits_eight_samples"].outcome == "skipped"


def test_what_is_no_backbone_is_caught() -> None:
    linear: Any = nn.Linear(1, 1)
    spec = replace(backbone(), make=lambda settings: linear)
    results = outcomes(BackboneCases(), spec)
    assert "returns a harness.plugin.Backbone" in results["backbone_says_what_it_is"].message


def test_a_backbone_of_few_elements_needs_crystals_of_its_own() -> None:
    few = backbone(elements=frozenset(["Na", "Cl"]))
    message = outcomes(BackboneCases(), few)["output_has_its_shape"].message
    assert "give `crystals` to the cases" in message


# --- pretrained weights -----------------------------------------------------------------------


class Pretrained(Good):
    """Comes with weights: ones, in the second layer."""

    def find_pretrained(self, locations: Any) -> PretrainedWeights:
        return PretrainedWeights("ones", Path(), "0" * 64, "nothing")

    def load_pretrained(self, module: nn.Module, weights: Any) -> Mapping[str, Any]:
        with torch.no_grad():
            module.second.weight.fill_(1.0)
        return {"tensors": 1}


def only_the_first(self: Any, module: nn.Module, weights: Any) -> Mapping[str, Any]:
    with torch.no_grad():
        module.second.weight[0].fill_(1.0)
    return {"tensors": 1}


def nothing(self: Any, module: nn.Module, weights: Any) -> Mapping[str, Any]:
    module.load_state_dict({"model.second.weight": torch.ones(3)}, strict=False)
    return {"tensors": 4}


class Biased(Network):
    """Does not see the last feature, until weights say so."""

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        super().__init__(generators)
        self.second.weight_of_last = nn.Parameter(torch.zeros(len(generators), 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.cat([x[..., :-1], torch.zeros_like(x[..., -1:])], -1)
        return super().forward(seen) + self.second.weight_of_last * x[..., -1:]


def see_the_last(self: Any, module: nn.Module, weights: Any) -> Mapping[str, Any]:
    with torch.no_grad():
        module.second.weight_of_last.fill_(1.0)
    return {"tensors": 1}


PRETRAINED = {
    "one member only": Defect(
        backbone(Pretrained, load_pretrained=only_the_first),
        "pretrained_weights_load",
        "members differ in second.weight",
    ),
    "nothing, without a word": Defect(
        backbone(Pretrained, load_pretrained=nothing),
        "pretrained_weights_load",
        "every parameter is as before",
    ),
    "no count": Defect(
        backbone(Pretrained, load_pretrained=lambda self, module, weights: {}),
        "pretrained_weights_load",
        "Found: None",
    ),
    "weights that see the number of sites": Defect(
        backbone(Pretrained, network=Biased, extra=number_of_sites, load_pretrained=see_the_last),
        "pretrained_embeddings_keep_the_invariances",
        "'supercell' is declared",
    ),
}


@pytest.mark.parametrize("defect", PRETRAINED.values(), ids=PRETRAINED)
def test_a_defect_of_pretrained_weights_is_caught(defect: Defect) -> None:
    broken = failing(outcomes(BackboneCases(), defect.spec))
    assert set(broken) == set(defect.fails.split())
    assert any(re.search(defect.says, message) for message in broken.values()), broken


def test_good_pretrained_weights_pass() -> None:
    results = outcomes(BackboneCases(), backbone(Pretrained))
    assert failing(results) == {}
    assert results["pretrained_weights_load"].outcome == "passed"


# --- heads trained by gradient ----------------------------------------------------------------


class Head(nn.Module):
    """One hidden layer."""

    def __init__(self, settings: Any, width: int, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.hidden = StackedLinear(generators, width, 12)
        self.last = StackedLinear(generators, 12, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.hidden(x))).squeeze(-1)


def head(**changes: Any) -> HeadSpec:
    return HeadSpec("toy", "a toy", Settings, make=type("Changed", (Head,), changes))


def of_width_16(self: Any, settings: Any, width: int, generators: Any) -> None:
    Head.__init__(self, settings, 16, generators)


HEADS = {
    "an axis too many": Defect(
        head(forward=lambda self, x: Head.forward(self, x).unsqueeze(-1)),
        "output_has_its_shape other_widths_work training_overfits_eight_samples",
        "members × batch",
    ),
    "detached from the backbone": Defect(
        head(forward=lambda self, x: Head.forward(self, x.detach())),
        "embeddings_get_gradients",
        "do not detach",
    ),
    "one width only": Defect(head(__init__=of_width_16), "other_widths_work", "RuntimeError"),
    "members are averaged": Defect(
        head(forward=lambda self, x: Head.forward(self, x) + Head.forward(self, x).mean(0)),
        "member_in_a_stack_equals_it_alone rows_of_other_members_change_nothing "
        "weights_of_other_members_change_nothing",
        "its own rows",
    ),
    "centred over the batch": Defect(
        head(forward=lambda self, x: Head.forward(self, x - 0.5 * x.mean(1, keepdim=True))),
        "rest_of_the_batch_changes_nothing",
        "rest of the batch",
    ),
}


@pytest.mark.parametrize("defect", HEADS.values(), ids=HEADS)
def test_a_defect_of_a_head_is_caught(defect: Defect) -> None:
    broken = failing(outcomes(HeadCases(), defect.spec))
    assert set(broken) == set(defect.fails.split())
    assert any(re.search(defect.says, message) for message in broken.values()), broken


def test_a_good_head_passes() -> None:
    assert failing(outcomes(HeadCases(), head())) == {}


# --- heads in closed form ---------------------------------------------------------------------


def linear(settings: Any, rows: FitRows) -> Callable[[Any], Any]:
    """Least squares on the property's scale, with a little ridge: constants are no trouble."""
    x = np.hstack([rows.embeddings, np.ones((len(rows.targets), 1))])
    gram = x.T @ x + 1e-6 * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, x.T @ rows.property.to_scale(rows.targets))

    def predict(asked: Any) -> Any:
        y = np.hstack([asked, np.ones((len(asked), 1))]) @ weights
        return rows.property.from_scale(y)

    return predict


def after(change: Callable[[Any, Any], Any], settings: Any, rows: FitRows) -> Callable[[Any], Any]:
    predict = linear(settings, rows)
    return lambda asked: change(predict, asked)


def closed(change: Callable[[Any, Any], Any]) -> HeadSpec:
    return HeadSpec("toy", "a toy", Settings, fit=partial(after, change))


def centred_rows(predict: Any, asked: Any) -> Any:
    return predict(asked - asked.mean(0))


def in_place(predict: Any, asked: Any) -> Any:
    asked += 0.1
    return predict(asked)


def unseeded(settings: Any, rows: FitRows) -> Any:
    noise = 1 + 0.01 * np.random.rand()
    return after(lambda predict, asked: predict(asked) * noise, settings, rows)


def standardised(settings: Any, rows: FitRows) -> Any:
    mean, std = rows.embeddings.mean(0), rows.embeddings.std(0)
    with np.errstate(invalid="ignore"):
        scaled = replace(rows, embeddings=(rows.embeddings - mean) / std)
        fitted = linear(settings, scaled)

    def predict(asked: Any) -> Any:
        with np.errstate(invalid="ignore", divide="ignore"):
            return fitted((asked - mean) / std)

    return predict


CLOSED = {
    "log κ in place of κ": Defect(
        closed(lambda predict, asked: np.log10(predict(asked))),
        "predictions_are_one_value_per_row predictions_are_in_the_unit_of_the_property",
        "finite, and positive on a log scale",
    ),
    "mW in place of W": Defect(
        closed(lambda predict, asked: 1000 * predict(asked)),
        "predictions_are_in_the_unit_of_the_property",
        "where every label is that",
    ),
    "a column in place of a row": Defect(
        closed(lambda predict, asked: predict(asked)[:, None]),
        "predictions_are_one_value_per_row constant_embeddings_are_no_error "
        "predictions_are_in_the_unit_of_the_property same_rows_give_the_same_fit "
        "fit_leaves_its_rows_alone asked_rows_do_not_matter_to_one_another "
        "blocks_of_the_embeddings_are_no_error",
        r"of shape \(20, 1\)",
    ),
    "negative uncertainty": Defect(
        closed(lambda predict, asked: Uncertain(predict(asked), -np.ones(len(asked)))),
        "predictions_are_one_value_per_row constant_embeddings_are_no_error "
        "predictions_are_in_the_unit_of_the_property same_rows_give_the_same_fit "
        "fit_leaves_its_rows_alone asked_rows_do_not_matter_to_one_another "
        "blocks_of_the_embeddings_are_no_error",
        "`std` has one number per row",
    ),
    "scaled by the rows that are asked": Defect(
        closed(centred_rows), "asked_rows_do_not_matter_to_one_another", "never from the asked"
    ),
    "changed inputs": Defect(
        closed(in_place),
        "fit_leaves_its_rows_alone asked_rows_do_not_matter_to_one_another",
        "work on copies",
    ),
    "random numbers without a seed": Defect(
        HeadSpec("toy", "a toy", Settings, fit=unseeded),
        "same_rows_give_the_same_fit",
        "seeded with `rows.seed`",
    ),
    "divided by a spread of zero": Defect(
        HeadSpec("toy", "a toy", Settings, fit=standardised),
        "constant_embeddings_are_no_error",
        "nan",
    ),
}


@pytest.mark.parametrize("defect", CLOSED.values(), ids=CLOSED)
def test_a_defect_of_a_closed_form_head_is_caught(defect: Defect) -> None:
    broken = failing(outcomes(HeadCases(), defect.spec))
    assert set(broken) == set(defect.fails.split())
    assert any(re.search(defect.says, message) for message in broken.values()), broken


def test_a_good_closed_form_head_passes() -> None:
    results = outcomes(HeadCases(), HeadSpec("toy", "a toy", Settings, fit=linear))
    assert failing(results) == {}
    assert results["predictions_are_in_the_unit_of_the_property"].outcome == "passed"
    uncertain = closed(lambda predict, asked: Uncertain(predict(asked), np.ones(len(asked))))
    assert failing(outcomes(HeadCases(), uncertain)) == {}
