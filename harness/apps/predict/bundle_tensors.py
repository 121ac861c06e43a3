"""What `bundle.safetensors` must hold: looked at before anything is made of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import BundleError

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[str, tuple[int, ...]]
"""Type, as safetensors names it, and the length of each axis."""

_NAME = re.compile(r"(0|[1-9]\d{0,8})\.(backbone|head|training|labels)\.(.+)")
RESIDUALS = "residuals"


def read_shapes(path: Path) -> dict[str, Shape]:
    """Reads names, types and shapes of tensors; none of the tensors is.

    Raises:
        ValueError: it is no whole file of tensors.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {n: (own.get_dtype(), tuple(own.get_shape())) for n, own in slices.items()}
    except SafetensorError as problem:
        raise ValueError(str(problem)) from None


def check_tensors(found: Mapping[str, Shape], members: Sequence[int], calibration: int) -> None:
    """Compares tensors with the record of a bundle, as far as that goes without its plugins.

    Args:
        found: what there is.
        members: how many each stack has.
        calibration: how many residuals there are.

    Raises:
        ValueError: a tensor is missing, is not known, or has another type or shape.
    """
    if (residuals := found.get(RESIDUALS)) != ("F64", (calibration,)):
        raise ValueError(f"{RESIDUALS} is {residuals}, expected {calibration} numbers, F64")
    for stack, number in enumerate(members):
        for member in range(number):
            _check_rows(found, f"{stack}.training.{member}", f"{stack}.labels.{member}")
    for name in found.keys() - {RESIDUALS}:
        known = _NAME.fullmatch(name)
        if not known or int(known[1]) >= len(members):
            raise ValueError(f"{name!r} belongs to none of {len(members)} stacks")
        rows = {str(member) for member in range(members[int(known[1])])}
        if known[2] in ("training", "labels") and known[3] not in rows:
            raise ValueError(f"{name!r} belongs to none of {len(rows)} members")


def _check_rows(found: Mapping[str, Shape], training: str, labels: str) -> None:
    kind, shape = found.get(training, ("missing", ()))
    if kind != "F32" or len(shape) != 2 or not shape[0]:
        raise ValueError(f"{training!r} is {kind} {shape}, expected rows × width, F32")
    if labels in found and found[labels] != ("F64", shape[:1]):
        raise ValueError(f"{labels!r} is {found[labels]}, expected {shape[0]} numbers, F64")


def check_model_tensors(tensors: Mapping[str, Tensor], width: int, *, labels: bool) -> None:
    """Compares the training rows of a stack with its model.

    Args:
        tensors: of the stack.
        width: of the embeddings of its backbone.
        labels: whether its head is fitted in closed form, and so needs them.

    Raises:
        BundleError: they are of another width, are no numbers, or there are no labels.
    """
    import torch

    for name, tensor in tensors.items():
        kind, _, member = name.partition(".")
        if kind == "training" and tensor.shape[1] != width:
            raise BundleError(
                f"The tensors are not those of the backbone that is named: {name} has "
                f"{tensor.shape[1]} columns, and its embeddings {width}."
            )
        if kind == "training" and labels and f"labels.{member}" not in tensors:
            raise BundleError(f"The head that is named needs labels.{member}: there are none.")
        if kind in ("training", "labels") and not torch.isfinite(tensor).all():
            raise BundleError(f"The tensor {name} of the bundle holds what is no number.")
