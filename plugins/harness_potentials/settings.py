"""What a benchmark file may set for potentials that are read from files, and for `eos`."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import SerializerFunctionWrapHandler, model_serializer, model_validator

from harness.plugin import Settings


class FileSettings(Settings):
    """The weights of a potential whose package brings none."""

    weights: str = ""
    """Name of the file in a folder of --weights-dir or $HARNESS_WEIGHTS, or its path."""
    seen: str = ""
    """Name of the data that it was trained on, for the audit; empty: not declared."""
    trust: str = ""
    """The sha256 of the file, where reading it runs code that is in it: who writes it here trusts
    that code."""


class OrbSettings(FileSettings):
    """The weights of ORB, whose files do not say what they are."""

    model: str = ""
    """Which of the package's models (`ORB_PRETRAINED_MODELS`) the file holds the tensors of."""


class EosSettings(OrbSettings):
    """Whose energies the backbone `eos` takes."""

    potential: Literal["chgnet", "mace", "mattersim", "orb"] = "chgnet"
    """All but CHGNet need `weights`, and ORB `model`, as the backbones of these names do."""

    @model_validator(mode="after")
    def _settings_have_a_use(self) -> Self:
        needless = self.model_fields_set - {"potential"}
        if self.potential != "chgnet":
            needless &= set() if self.potential == "orb" else {"model"}
        if needless:
            raise ValueError(
                f"{', '.join(sorted(needless))}: not for the potential {self.potential!r}"
            )
        return self

    @model_serializer(mode="wrap")
    def _say_what_differs(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves the keys of CHGNet's results as they were before there was a choice."""
        written: dict[str, Any] = handler(self)
        return {} if self.potential == "chgnet" else written
