"""What plugins offer, by name; and what became of names and plugins that cannot be used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from harness.errors import PluginError, did_you_mean
from harness.plugin.backbone import BackboneSpec
from harness.plugin.dataset import DatasetSpec
from harness.plugin.head import HeadSpec
from harness.plugin.metric import MetricSpec
from harness.plugin.property import PropertySpec
from harness.plugin.protocol import ProtocolSpec
from harness.plugin.transfer import TransferSpec

Spec = TypeVar(
    "Spec",
    PropertySpec,
    BackboneSpec,
    DatasetSpec,
    HeadSpec,
    MetricSpec,
    ProtocolSpec,
    TransferSpec,
)


@dataclass(frozen=True)
class BrokenPlugin:
    """A plugin found but not usable: its name and what happened, with file and line.

    Attributes:
        name: of the plugin, or the path of its file.
        problem: what happened.
        unknown: it is a file that a benchmark lists and that this user has not run.
    """

    name: str
    problem: str
    unknown: bool = False


class Catalog(Mapping[str, Spec], Generic[Spec]):
    """Everything of one kind that plugins offer, by name.

    A name that two plugins offer is neither's: it is in `contested`, and not among the names.
    """

    def __init__(self, kind: str, broken: Sequence[BrokenPlugin]) -> None:
        self.kind = kind
        self._specs: dict[str, Spec] = {}
        self._owners: dict[str, list[str]] = {}
        self._broken = broken

    def add(self, spec: Spec, plugin: str) -> None:
        """Adds one spec; a name that another plugin offers too is contested from now on."""
        owners = self._owners.setdefault(spec.name, [])
        owners.append(plugin)
        if len(owners) == 1:
            self._specs[spec.name] = spec
        else:
            self._specs.pop(spec.name, None)

    def refuse_taken(self, name: str, plugin: str) -> None:
        """Refuses a name for a plugin.

        Raises:
            PluginError: another plugin already offers that name.
        """
        if name in self._owners:
            raise PluginError(self._dispute(name, [*self._owners[name], plugin]))

    @property
    def contested(self) -> dict[str, str]:
        """Names that more than one plugin offers, and what to do about each."""
        return {
            name: self._dispute(name, owners)
            for name, owners in self._owners.items()
            if len(owners) > 1
        }

    def owner(self, name: str) -> str:
        """Name of the plugin that offers `name`."""
        return self._owners[name][0]

    def __getitem__(self, name: str) -> Spec:
        if name not in self._specs:
            raise PluginError(self.contested.get(name) or self._unknown(name))
        return self._specs[name]

    def __contains__(self, name: object) -> bool:
        return name in self._specs

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)

    def _dispute(self, name: str, owners: Sequence[str]) -> str:
        *others, last = map(repr, owners)
        number = "Two" if len(owners) == 2 else str(len(owners))
        return (
            f"{number} plugins offer the {self.kind} {name!r}: {', '.join(others)} and {last}. "
            f"Uninstall all but one, or rename the {self.kind}."
        )

    def _unknown(self, name: str) -> str:
        text = f"Unknown {self.kind} {name!r}.{did_you_mean(name, self._specs)}"
        text += (
            "\nIf a plugin file offers it, list that file under `plugins` in the benchmark file, "
            "or give --plugin FILE.py."
        )
        for plugin in self._broken:
            failed = "is not loaded" if plugin.unknown else "failed to load"
            text += f"\nThis plugin {failed}: {plugin.name}: {plugin.problem}"
        return text
