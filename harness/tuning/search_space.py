"""The search space of a configuration: what plugins declare, as a benchmark changes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import BenchmarkError, did_you_mean
from harness.planning.chosen_settings import Setting
from harness.planning.training_settings import TrainingSettings, training_space
from harness.plugin.ranges import Parameter, Range, SearchSpace, Space, read_parameter
from harness.plugin.settings import Settings
from harness.plugin.study import SpaceChanges
from harness.registry.plugin_calls import Breach, call

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from harness.planning.resolved import Configuration
    from harness.plugin.property import PropertySpec
    from harness.registry.registry import Registry


MOST_TIMES = 1000
"""How far a benchmark may go above the whole numbers that a plugin declares."""


@dataclass(frozen=True, eq=False)
class ComponentSpace:
    """The search space of one part of a configuration.

    Attributes:
        name: `training`, `backbone`, `head` or `transfer`: what its parameters begin with.
        space: as declared.
        parameters: as the benchmark has them.
        fixed: parameters with one value.
    """

    name: str
    space: SearchSpace
    parameters: Mapping[str, Parameter]
    fixed: Mapping[str, Any]

    def settle(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Turns values of all parameters, by their whole names, into settings.

        Raises:
            PluginError: one is None.
        """
        own = {
            name.removeprefix(f"{self.name}."): value
            for name, value in params.items()
            if name.startswith(f"{self.name}.")
        }
        declared = self.space.parameters
        values = {**self.fixed, **own}
        added = {name: value for name, value in values.items() if name not in declared}
        settled = call(
            self.space.settle,
            {name: value for name, value in values.items() if name in declared},
            action=f"settling the parameters of the {self.name}",
            returns=Mapping,
        )
        if nothing := [name for name, value in settled.items() if value is None]:
            raise Breach(
                self.space.settle,
                f"The search space of the {self.name} gives {nothing[0]} = None, which a benchmark "
                "file cannot say: leave the setting out in `settle`, or let a value stand for it.",
            )
        return {**settled, **added}


@dataclass(frozen=True, eq=False)
class ConfigurationSpace:
    """All that is searched for in one configuration."""

    parts: tuple[ComponentSpace, ...]

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """By whole name, as `training.lr`."""
        return {
            f"{part.name}.{name}": distribution_of(parameter)
            for part in self.parts
            for name, parameter in part.parameters.items()
        }

    @property
    def most_epochs(self) -> int | None:
        """Most epochs of the last stage that are asked for; None: the benchmark's."""
        for part in self.parts:
            if part.name == "training":
                asked = part.parameters.get("epochs", part.fixed.get("epochs"))
                if not isinstance(asked, Parameter):
                    return asked
                distribution = distribution_of(asked)
                ends: Any = getattr(distribution, "choices", None) or (vars(distribution)["high"],)
                return int(max(ends))
        return None

    def settle(self, params: Mapping[str, Any]) -> Setting:
        """Turns one value per parameter into settings."""
        return Setting(**{part.name: dict(part.settle(params)) for part in self.parts})


def space_of(
    one: Configuration, changes: SpaceChanges, registry: Registry, spec: PropertySpec
) -> ConfigurationSpace:
    """Returns what is searched for in a configuration, as a benchmark changes it.

    Args:
        one: the configuration.
        changes: of the benchmark.
        registry: of the plugins.
        spec: the property that is fitted.

    Raises:
        BenchmarkError: a parameter is neither declared nor a setting, or a change makes no sense.
    """
    assert one.transfer is not None
    model = one.model
    backbone = registry.backbones[model.backbone_ref.name]
    head, transfer = model.head, one.transfer.spec
    narrowed = changes.backbones.get(backbone.name)
    if narrowed is None and any(stage.start == "pretrained" for stage in one.stages):
        narrowed = False  # pretrained weights fit the model that they were trained as, no other
    parts = [
        _part(
            "backbone",
            f"backbones.{backbone.name}",
            backbone.space,
            backbone.settings,
            {} if narrowed is None else narrowed,
        ),
        _part(
            "head",
            f"heads.{head.name}",
            head.space,
            head.settings,
            changes.heads.get(head.name, {}),
        ),
        _part(
            "transfer",
            f"transfers.{transfer.name}",
            transfer.space,
            transfer.settings,
            changes.transfers.get(transfer.name, {}),
        ),
    ]
    if head.fit is None:  # nothing of that is asked of a head in closed form
        own = training_space(spec)
        parts.insert(0, _part("training", "training", own, TrainingSettings, changes.training))
    return ConfigurationSpace(tuple(parts))


def check_changes(changes: SpaceChanges, choices: Mapping[str, Sequence[str]]) -> None:
    """Refuses changes to the spaces of what a benchmark does not name.

    Args:
        changes: of the benchmark.
        choices: names that it uses, by table: `backbones`, `heads`, `transfers`.
    """
    for table, names in choices.items():
        for name in getattr(changes, table):
            if name not in names:
                raise BenchmarkError(
                    f"tuning.space.{table}: {name!r} is not in this benchmark."
                    f"{did_you_mean(name, names)}"
                )


def _part(
    name: str,
    table: str,
    declared: Space | None,
    settings: type[Settings],
    change: Mapping[str, Any] | bool,
) -> ComponentSpace:
    if change is False:
        return ComponentSpace(name, SearchSpace({}), {}, {})
    assert not isinstance(change, bool)
    space = SearchSpace.of(declared)
    parameters = dict(space.parameters)
    fixed: dict[str, Any] = {}
    known = [*parameters, *settings.model_fields]
    for parameter, asked in change.items():
        where = f"tuning.space.{table}.{parameter}"
        if parameter not in known:
            raise BenchmarkError(
                f"{where}: neither a parameter of the declared space nor a setting."
                f"{did_you_mean(parameter, known)}"
            )
        found = read_parameter(asked)
        _refuse_absurd_size(where, space.parameters.get(parameter), found, asked)
        if found is None:
            parameters.pop(parameter, None)
            fixed[parameter] = asked
        else:
            parameters[parameter] = found
    return ComponentSpace(name, space, parameters, fixed)


def _refuse_absurd_size(
    where: str, declared: Parameter | None, found: Parameter | None, asked: object
) -> None:
    """Refuses whole numbers far above those declared: layers or widths that no memory holds.

    Raises:
        BenchmarkError: there is one.
    """
    if not isinstance(declared, Range) or not isinstance(declared.high, int):
        return
    numbers: tuple[object, ...] = (asked,) if found is None else getattr(found, "values", ())
    if isinstance(found, Range):
        numbers = (found.high,)
    most = MOST_TIMES * declared.high
    for number in numbers:
        if isinstance(number, int | float) and number > most:
            raise BenchmarkError(
                f"{where}: {number:,} is more than {MOST_TIMES:,} times the largest number that "
                f"is declared, {declared.high}: expected at most {most:,}."
            )


def distribution_of(parameter: Parameter) -> BaseDistribution:
    """Returns the same range or choice as a distribution of Optuna."""
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if not isinstance(parameter, Range):
        return CategoricalDistribution(parameter.values)
    low, high, step = parameter.low, parameter.high, parameter.step
    if isinstance(low, int) and isinstance(high, int) and not isinstance(step, float):
        return IntDistribution(low, high, parameter.log, 1 if step is None else step)
    return FloatDistribution(low, high, parameter.log, step)


def draw_values(space: SearchSpace, samples: int) -> Iterator[dict[str, Any]]:
    """Draws a value for every parameter: some at random, and each end or choice once."""
    import optuna

    distributions = {name: distribution_of(one) for name, one in space.parameters.items()}
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        drawn = [study.ask(distributions).params for _ in range(samples)]
    finally:
        optuna.logging.set_verbosity(verbosity)
    yield from drawn
    for name, parameter in space.parameters.items():
        ends: Sequence[Any] = (
            (parameter.low, parameter.high) if isinstance(parameter, Range) else parameter.values
        )
        yield from ({**drawn[0], name: end} for end in ends)
