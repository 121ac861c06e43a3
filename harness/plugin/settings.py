"""The base of every model of settings."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class Settings(BaseModel):
    """Base of every settings model: frozen, unknown keys refused, numbers are finite numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_truth_as_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Pydantic would take `true` for 1."""
        field = cls.model_fields[str(info.field_name)]
        if isinstance(value, bool) and not _takes_truth(field.annotation):
            raise ValueError("expected another value than true or false")
        return value


def _takes_truth(annotation: Any) -> bool:
    """Whether true and false are meant among the values of a type; of nested ones too."""
    return annotation in (bool, Any, object, True, False) or any(
        map(_takes_truth, get_args(annotation))
    )
