"""`harness datasets`: what data there is, where it lies, and one's own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.help import Commands
from harness.cli.options import DataOption, JsonOption, PluginOption
from harness.cli.output import print_next, say
from harness.plugin.property import THERMAL_CONDUCTIVITY

if TYPE_CHECKING:
    from harness.apps.imports.importing import Ask, Imported, Question
    from harness.data.dataset import Dataset

datasets = Commands(help="List, show, fetch, import and remove datasets.")

NameArgument = Annotated[str, typer.Argument(help="Name of a dataset, as Dataset1.")]
SourceArgument = Annotated[
    str,
    typer.Argument(
        help="A folder of CIF or POSCAR files; JSON lines, extended XYZ, an ASE database; a "
        "pandas frame as JSON; NAME.pkl beside structures_NAME.pkl; a CSV, with a column of "
        "structures or with ids of the Materials Project; or mp:stable, mp:key=value,…: what the "
        "Materials Project has of the property.",
        show_default=False,
    ),
]
TargetsOption = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="CSV (for pickles: pickle) with the targets, where SOURCE has structures alone; "
        "of a folder, the one CSV in it unless given.",
    ),
]


@datasets.command("list")
def list_datasets(plugin: PluginOption = None, json: JsonOption = False) -> None:
    """List the datasets that plugins offer, from their cards; loads no rows.

    Examples:
        harness datasets list
        harness datasets list --plugin my_dataset.py
    """
    from harness.cli.output import print_json, print_table
    from harness.data.dataset import factor_of
    from harness.errors import HarnessError
    from harness.registry.registry import Registry

    registry = Registry(plugin or ())
    rows = []
    for name, spec in registry.datasets.items():
        try:
            card = spec.read_card()
            factor_of(name, card, registry.properties[card.property])
            size, title, property_name = card.rows, card.title, card.property
        except HarnessError as problem:  # of one plugin; the others are shown
            size, title, property_name = None, f"unusable: {problem}", ""
        rows.append(
            {
                "name": name,
                "property": property_name,
                "rows": size if size is not None else "",
                "title": title,
                "parts": " + ".join(spec.parts),
                "plugin": registry.datasets.owner(name),
            }
        )
    if json:
        print_json(rows)
    else:
        print_table("Datasets", rows, numeric=("rows",), prose=("title",))


@datasets.command()
def show(
    name: NameArgument,
    data_dir: DataOption = None,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Show a dataset's card, digest, size, range of values, and the rows that cannot be used.

    Examples:
        harness datasets show Experiment
        harness datasets show Dataset1 --data-dir data
    """
    from harness.api import load_dataset
    from harness.cli.output import print_json, print_table

    dataset = load_dataset(name, data_dir=data_dir, plugins=plugin or ())
    facts = {
        **{key: value for key, value in dataset.card.model_dump().items() if value},
        "usable rows": len(dataset),
        "formulas": len(set(dataset.formulas)),
        **_range(dataset),
        "digest": dataset.digest,
        "unusable rows": len(dataset.problems),
    }
    problems = [vars(problem) for problem in dataset.problems]
    if json:
        print_json({"name": name, **facts, "problems": problems})
        return
    print_table(name, [{"": key, " ": value} for key, value in facts.items()], prose=(" ",))
    if problems:
        print_table("Rows that cannot be used", problems, numeric=("row",), prose=("reason",))


def _range(dataset: Dataset) -> dict[str, str]:
    """Returns the range of a dataset's values, by what they are and their unit."""
    spec, low, high = dataset.property, dataset.targets.min(), dataset.targets.max()
    what = f"{spec.symbol} range, {spec.unit}" if spec.unit else f"{spec.symbol} range"
    return {what: f"{low:.4g} … {high:.4g}"}


@datasets.command()
def fetch(name: NameArgument, data_dir: DataOption = None, plugin: PluginOption = None) -> None:
    """Make sure that a dataset is on this machine, downloading it where that is needed.

    Examples:
        harness datasets fetch matbench_phonons
        harness datasets fetch Dataset1 --data-dir data
    """
    from harness.api import load_dataset

    dataset = load_dataset(name, data_dir=data_dir, plugins=plugin or ())
    say(f"{name}: {len(dataset)} usable rows, digest {dataset.digest[:16]}")


@datasets.command("import")
def import_files(
    name: Annotated[str, typer.Argument(help="What benchmarks will call it.", show_default=False)],
    source: SourceArgument,
    targets: TargetsOption = None,
    id_column: Annotated[
        str | None, typer.Option(help="Column that names the rows, and the file of a structure.")
    ] = None,
    target_column: Annotated[
        str | None, typer.Option(help="Column of the property's values.")
    ] = None,
    structure_column: Annotated[
        str | None, typer.Option(help="Column with structures, of a frame or CSV; '' for none.")
    ] = None,
    property_name: Annotated[
        str, typer.Option("--property", help="What the values are; see `harness plugins list`.")
    ] = THERMAL_CONDUCTIVITY,
    unit: Annotated[
        str | None, typer.Option(help="Of the values, one that the property has, as W/(m·K).")
    ] = None,
    temperature: Annotated[
        str | None,
        typer.Option(help="Of values that depend on it, in K, or 'unknown'."),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="How the values were measured or computed.")
    ] = None,
    title: Annotated[str, typer.Option(help="One line for lists.")] = "",
    notes: Annotated[str, typer.Option(help="What a user should know.")] = "",
    url: Annotated[str, typer.Option(help="Where the data come from.")] = "",
    licence: Annotated[str, typer.Option(help="Of the data.")] = "",
    citation: Annotated[str, typer.Option(help="What to cite.")] = "",
    overwrite: Annotated[
        bool, typer.Option("--replace", help="Take the place of an imported dataset of that name.")
    ] = False,
    strict_data: Annotated[
        bool, typer.Option("--strict-data", help="Refuse a source with unusable rows.")
    ] = False,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Make a dataset of your own files, for every benchmark to name; no code.

    What the files do not say is asked for on a terminal, and an error elsewhere. Rows that cannot
    be used are left out and listed by line and reason. The Materials Project is asked with your key
    ($MP_API_KEY, or pymatgen's settings), for structures by id, or for values too, as in
    `harness datasets import gaps mp:elements=Ga+N --property band-gap`; what was fetched is kept,
    so an import that broke off goes on where it stopped.

    Examples:
        harness datasets import mine crystals/ --target-column kappa
        harness datasets import gaps mp:elements=Ga+N --property band-gap
    """
    from harness.apps.imports.importing import import_dataset

    facts = {"title": title, "notes": notes, "url": url, "licence": licence, "citation": citation}
    with _conversation(asking=sys.stdin.isatty() and not json) as (ask, told):
        imported = import_dataset(
            name,
            source,
            targets=targets,
            structure_column=structure_column,
            id_column=id_column,
            target_column=target_column,
            property_name=property_name,
            unit=unit,
            temperature=temperature,
            method=method,
            facts=facts,
            overwrite=overwrite,
            strict_data=strict_data,
            plugins=plugin or (),
            ask=ask,
            told=told,
        )
    _print_imported(imported, json)


@contextmanager
def _conversation(asking: bool) -> Iterator[tuple[Ask | None, Callable[[str], None]]]:
    """Yields what asks a person, if that is wanted, and what tells what is going on.

    What is told stands in one line that moves, and that makes way while a question is asked.
    """
    from rich.console import Console

    with Console(stderr=True).status("reading") as status:

        def ask(question: Question) -> str:
            status.stop()
            answer = _ask(question)
            status.start()
            return answer

        yield ask if asking else None, status.update


def _ask(question: Question) -> str:
    """Asks on the terminal, again where the answer makes no sense."""
    from harness.errors import DataError

    def check(answer: str) -> str:
        try:
            return question.check(answer)
        except DataError as problem:
            raise typer.BadParameter(str(problem)) from None

    shown = f" ({', '.join(question.shown)})" if question.shown else ""
    text = f"{question.text[0].upper()}{question.text[1:]}{shown}"
    return str(typer.prompt(text, default=question.default, value_proc=check))


def _print_imported(imported: Imported, json: bool, shown: int = 20) -> None:
    from harness.cli.output import print_json, print_table

    dataset, card = imported.dataset, imported.dataset.card
    kelvin = f"{card.temperature_kelvin:g}" if card.temperature_kelvin else "unknown"
    rejected = [vars(row) for row in imported.rejected]
    facts = {
        "rows": len(dataset),
        "left out": len(rejected),
        "formulas": len(set(dataset.formulas)),
        "property": dataset.property.name,
        **_range(dataset),
        **({"temperature, K": kelvin} if dataset.property.at_temperature else {}),
        "digest": dataset.digest,
        "folder": imported.folder,
    }
    if json:
        print_json(
            {"name": dataset.name, **facts, "remarks": imported.remarks, "rejected": rejected}
        )
        return
    rows = [{"": key, " ": value} for key, value in facts.items()]
    print_table(dataset.name, rows, prose=(" ",))
    for remark in imported.remarks:
        say(f"note: {remark}")
    if rejected:
        print_table("Rows left out", rejected[:shown], prose=("reason",))
    if len(rejected) > shown:
        print(f"… and {len(rejected) - shown} more, in {imported.folder / 'rejected.csv'}")
    print_next(
        [
            (
                f"harness init {dataset.name}-first --dataset {dataset.name}",
                f'a benchmark of it; in one of your own: train_on = ["{dataset.name}"]',
            ),
            (f"harness datasets show {dataset.name}", "all that is known of it"),
        ]
    )


@datasets.command()
def remove(
    name: Annotated[str, typer.Argument(help="Name of an imported dataset.", show_default=False)],
) -> None:
    """Remove a dataset that was imported; results that were trained on it stay.

    Examples:
        harness datasets remove mine
        harness datasets remove gaps
    """
    from harness.apps.imports.imported import remove_imported

    print(f"Removed {name}, {remove_imported(name)}")
