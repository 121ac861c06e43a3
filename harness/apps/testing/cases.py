"""Cases of every kind: a spec is data with a name, and its settings are what they say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ValidationError

from harness.apps.testing.promises import broken, promise, skip
from harness.plugin.function import LazyFunction, WrongText
from harness.plugin.ranges import SearchSpace
from harness.plugin.settings import Settings
from harness.registry.validation import NAME

if TYPE_CHECKING:
    from harness.plugin.locations import Locations
    from harness.registry.registry import Registry

LONGEST_SUMMARY = 120
"""Characters of a line in a list that is still read as one."""

SAMPLES = 20
"""Samples drawn from a search space."""


class Cases:
    """What all kinds promise.

    Attributes:
        registry: where names are looked up; the installed plugins unless given.
        locations: where data and weights lie; as the environment says unless given.
    """

    spec_type: ClassVar[type[Any]]
    registry: Registry | None = None
    locations: Locations | None = None

    def test_spec_is_frozen_data(self, spec: Any) -> None:
        """The spec is a frozen dataclass of its kind."""
        wanted, frozen = self.spec_type.__name__, False
        try:
            setattr(spec, "name", spec.name)  # noqa: B010
        except AttributeError:
            frozen = True
        promise(
            isinstance(spec, self.spec_type) and frozen,
            f"the spec is a {wanted}, a frozen dataclass",
            f"a {type(spec).__name__}{'' if frozen else ' whose fields can be set'}",
            f"return a {wanted} from the hook (and from the fixture `spec`)",
        )

    def test_name_can_be_written(self, spec: Any) -> None:
        """The name can be written in a benchmark file and on a command line."""
        promise(
            isinstance(spec.name, str) and NAME.fullmatch(spec.name) is not None,
            "the name consists of letters, digits, and . + - _ inside it",
            repr(spec.name),
            "choose a name such as 'my-model'",
        )

    def test_summary_is_one_line(self, spec: Any) -> None:
        """There is one line that says what it is."""
        line = self._line(spec)
        good = line.strip() == line and 0 < len(line) <= LONGEST_SUMMARY and line.isprintable()
        promise(
            good,
            f"one line for `harness plugins list`, at most {LONGEST_SUMMARY} characters",
            repr(line),
            "say in a few words what it is",
        )

    def test_functions_given_as_text_exist(self, spec: Any) -> None:
        """What is given as text, `package.module:Name`, if anything is, can be imported."""
        for function in vars(spec).values():
            if not isinstance(function, LazyFunction):
                continue
            try:
                function.load()
            except WrongText as problem:
                broken(
                    "a function where the text says",
                    str(problem).rstrip("."),
                    "correct the text, and see that the module is packaged",
                )

    def _line(self, spec: Any) -> str:
        return str(spec.summary)

    def _registry(self) -> Registry:
        from harness.registry.registry import Registry

        return self.registry or Registry()

    def _locations(self) -> Locations:
        from harness.plugin.locations import Locations

        return self.locations or Locations()


class SettingsCases(Cases):
    """What kinds with settings promise.

    Attributes:
        settings: what to try the spec with, beside its defaults.
    """

    settings: Mapping[str, Any] = {}

    def given(self, spec: Any) -> dict[str, Any]:
        """Returns the settings to try the spec with, not validated yet."""
        return dict(self.settings)

    def made_settings(self, spec: Any) -> Any:
        """Returns the settings to try the spec with.

        Raises:
            unittest.SkipTest: the spec refuses them, which one case tells.
        """
        try:
            return spec.settings.model_validate(self.given(spec))
        except ValidationError:
            skip("needs valid settings: see test_default_settings_are_valid")

    def test_settings_are_a_frozen_model(self, spec: Any) -> None:
        """The settings are a frozen model that refuses what it does not know."""
        model = spec.settings
        promise(
            isinstance(model, type) and issubclass(model, Settings),
            "`settings` is a subclass of harness.plugin.Settings",
            repr(model),
            "derive the model of the settings from harness.plugin.Settings",
        )
        config = {key: model.model_config.get(key) for key in ("frozen", "extra")}
        promise(
            config == {"frozen": True, "extra": "forbid"},
            "settings are frozen and refuse unknown keys",
            str(config),
            f"leave `model_config` of {model.__name__} as harness.plugin.Settings has it",
        )

    def test_default_settings_are_valid(self, spec: Any) -> None:
        """The settings are valid as they are tried here: defaults, and what has none."""
        self._validated(
            spec,
            self.given(spec),
            "mend the defaults; or, where a setting has none on purpose, give it: class attribute "
            "`settings` of the cases, `--set key=value` of `harness plugins check`",
        )

    def test_unknown_settings_are_refused(self, spec: Any) -> None:
        """A misspelt setting is an error."""
        misspelt = "no_such_setting"
        try:
            spec.settings.model_validate({**self.given(spec), misspelt: 1})
        except ValidationError as problem:
            refused = any(error["loc"][:1] == (misspelt,) for error in problem.errors())
        else:
            refused = False
        promise(
            refused,
            "a setting that does not exist is refused",
            f"{misspelt} = 1 was taken without a word",
            f"leave `model_config` of {spec.settings.__name__} as harness.plugin.Settings has it",
        )

    def test_settings_survive_json(self, spec: Any) -> None:
        """Settings written to JSON and read again are the same."""
        settings = self.made_settings(spec)
        again = self._validated(
            spec,
            settings.model_dump(mode="json"),
            "let the model read what its own `model_dump(mode='json')` writes",
        )
        promise(
            again == settings,
            "settings are the same after JSON",
            f"{settings!r} became {again!r}",
            "use types that pydantic reads as it writes them: numbers, strings, tuples, literals",
        )

    def test_search_space_gives_valid_settings(self, spec: Any) -> None:
        """What is drawn from the search space, its ends included, settles into valid settings."""
        if getattr(spec, "space", None) is None:
            skip("no search space declared")
        from harness.tuning.search_space import draw_values

        space = SearchSpace.of(spec.space)
        for values in draw_values(space, SAMPLES):
            settled = space.settle(dict(values))
            promise(
                isinstance(settled, Mapping),
                "`space.settle` returns a mapping of settings",
                f"a {type(settled).__name__} from {values}",
                "return {setting: value, …}",
            )
            self._validated(
                spec,
                {**self.given(spec), **settled},
                f"narrow the ranges, or settle {values} into valid settings",
            )

    def _validated(self, spec: Any, values: Mapping[str, Any], remedy: str) -> Any:
        try:
            return spec.settings.model_validate(dict(values))
        except ValidationError as problem:
            found = "; ".join(
                f"{'.'.join(map(str, error['loc'])) or 'together'}: {error['msg']}"
                for error in problem.errors()
            )
            broken(f"{spec.settings.__name__} takes {dict(values)}", found, remedy)
