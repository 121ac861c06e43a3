"""Published weights: checked strictly, and put into a stack.

Two traps lie in the published file (`MEGNet-MP-2018.6.1-Eform/state.pt`, matgl, BSD-3). Its keys
carry the prefix `model.`, so that a lenient `load_state_dict` into a bare MEGNet loads nothing and
says nothing. And it was trained when matgl averaged messages into the *destination* node; matgl ≥ 3
averages into the *source* node and computes other energies from it. So nothing is loaded leniently
here, and nothing is believed before `harness_megnet.verification` has seen the right energies.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import torch
from torch import Tensor

from harness.plugin import WeightsError

if TYPE_CHECKING:
    from harness_megnet.module import Megnet
    from harness_megnet.settings import Convention

PREFIX = "model."
LAST_LAYER = f"{PREFIX}output_proj.layers.4"
CENTRES = f"{PREFIX}bond_expansion.rbf.centers"
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Slot:
    """Where one tensor of the published file goes.

    Attributes:
        shape: expected in the file.
        parameter: name in the stacked module; empty for what the module does not hold.
    """

    shape: tuple[int, ...]
    parameter: str


def slots(module: Megnet) -> dict[str, Slot]:
    """Lists every key that the published file must have, and no other."""
    expected = dict(_module_slots(module))
    width = expected[f"{PREFIX}output_proj.layers.2.weight"].shape[0]
    expected[f"{LAST_LAYER}.weight"] = Slot((1, width), "")
    expected[f"{LAST_LAYER}.bias"] = Slot((1,), "")
    expected[CENTRES] = Slot(tuple(module.centres.shape), "")
    return expected


def _module_slots(module: Megnet) -> Iterator[tuple[str, Slot]]:
    for name, parameter in module.named_parameters():
        shape = tuple(parameter.shape[1:])
        if name.endswith("bias"):
            shape = shape[1:]
        elif name != "embedding.weight":
            shape = shape[::-1]  # torch.nn.Linear keeps n_out × n_in
        yield PREFIX + _published_name(name), Slot(shape, name)


_PARTS = {
    "edge_dense": "edge_func",
    "node_dense": "node_func",
    "state_dense": "state_func",
    "edge_update": "conv.edge_func",
    "node_update": "conv.node_func",
    "state_update": "conv.state_func",
    "projection": "output_proj",
}


def _published_name(name: str) -> str:
    """The name in matgl's MEGNet of a parameter of ours.

    Their layers are numbered together with the activations between them: 0, 2, 4.
    """
    *owners, kind = name.split(".")
    if owners == ["embedding"]:
        return f"embedding.layer_node_embedding.{kind}"
    if owners == ["output"]:
        return f"output_proj.layers.2.{kind}"
    if owners[-1] in ("input", "hidden"):
        _, part, gate = owners
        return f"{part}_s2s.lstm.{kind}_{'ih' if gate == 'input' else 'hh'}_l0"
    *parts, layer = owners
    theirs = [
        f"blocks.{int(part.removeprefix('block')) - 1}"
        if part.startswith("block")
        else _PARTS.get(part, part)
        for part in parts
    ]
    return f"{'.'.join(theirs)}.layers.{2 * int(layer)}.{kind}"


def check(state: Tensors, module: Megnet, path: Path) -> None:
    """Refuses a file that does not hold exactly the tensors of this architecture.

    Raises:
        WeightsError: says which keys are missing, unexpected or of another shape.
    """
    check_shapes(state, {key: slot.shape for key, slot in slots(module).items()}, path)
    check_centres(state, module.centres, path)


def check_shapes(state: Tensors, expected: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """Refuses a file that does not hold exactly these tensors.

    Args:
        state: what was read.
        expected: shapes by key.
        path: of the file, for the message.

    Raises:
        WeightsError: says which keys are missing, unexpected or of another shape.
    """
    if not state.keys() & expected.keys():
        _explain_prefix(state, expected, path)
    problems = [f"missing {key}" for key in sorted(expected.keys() - state.keys())]
    problems += [f"unexpected {key}" for key in sorted(state.keys() - expected.keys())]
    problems += [
        f"{key} has shape {tuple(state[key].shape)}, expected {shape}"
        for key, shape in expected.items()
        if key in state and tuple(state[key].shape) != shape
    ]
    if problems:
        _refuse(path, problems)


def check_centres(state: Tensors, centres: Tensor, path: Path) -> None:
    """Refuses a file whose bond lengths are expanded about other centres.

    Raises:
        WeightsError: they are not those of the settings.
    """
    if not torch.allclose(state[CENTRES], centres.cpu()):
        _refuse(path, [f"{CENTRES} are not the centres of the settings"])


def _refuse(path: Path, problems: Sequence[str]) -> NoReturn:
    more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
    raise WeightsError(
        f"{path} does not fit the architecture: {'; '.join(problems[:5])}{more}. Nothing was "
        "loaded. Check the name of the weights, and settings that change the architecture."
    )


def _explain_prefix(state: Tensors, expected: Container[str], path: Path) -> None:
    """Says so where only the prefix of the keys is wrong."""
    for key in state:
        if PREFIX + key in expected:
            raise WeightsError(
                f"{path}: the keys lack the prefix {PREFIX!r}: found {key!r}, expected "
                f"{PREFIX + key!r}. Nothing was loaded. The file was rewritten by something else: "
                "fetch the published one."
            )
        if key.removeprefix(PREFIX) in expected:
            raise WeightsError(
                f"{path}: the keys carry the prefix {PREFIX!r} once too often: found {key!r}, "
                f"expected {key.removeprefix(PREFIX)!r}. Nothing was loaded. The file was "
                "rewritten by something else: fetch the published one."
            )


# --- filling ----------------------------------------------------------------------------------


def fill(module: Megnet, state: Tensors, convention: Convention) -> None:
    """Copies checked tensors into every member of a module.

    The module averages into the destination node. Edges come in pairs of both directions, so
    weights of the other convention become right by swapping the two ends: the source and the
    destination block of each edge update's first layer.
    """
    with torch.no_grad():
        for key, slot in slots(module).items():
            if not slot.parameter:
                continue
            tensor = state[key]
            parameter = module.get_parameter(slot.parameter)
            if convention == "source" and slot.parameter.endswith("edge_update.0.weight"):
                first, second, edge, state_part = tensor.chunk(4, 1)
                tensor = torch.cat([second, first, edge, state_part], 1)
            if tensor.dim() == 2 and slot.parameter != "embedding.weight":
                tensor = tensor.t()
            parameter.copy_(tensor.expand_as(parameter))
