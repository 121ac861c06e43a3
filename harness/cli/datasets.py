"""`harness datasets`: what data there is, and where it lies."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.options import DataOption, JsonOption, PluginOption

datasets = typer.Typer(help="List, show and fetch datasets.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="Name of a dataset, as Dataset1.")]


@datasets.command("list")
def list_datasets(plugin: PluginOption = None, json: JsonOption = False) -> None:
    """List the datasets that plugins offer, from their cards; loads no rows."""
    from harness.cli.output import print_json, print_table
    from harness.dataset import Card
    from harness.errors import DataError
    from harness.registry import Registry

    registry = Registry(plugin or ())
    rows = []
    for name, spec in registry.datasets.items():
        try:
            card = Card.read(spec.card)
            size, title = card.rows, card.title
        except DataError as problem:  # of one plugin; the others are shown
            size, title = None, f"unusable: {problem}"
        rows.append(
            {
                "name": name,
                "rows": size if size is not None else "",
                "title": title,
                "parts": " + ".join(spec.parts),
                "plugin": registry.datasets.owner(name),
            }
        )
    if json:
        print_json(rows)
    else:
        print_table("Datasets", rows, numeric=("rows",))


@datasets.command()
def show(
    name: NameArgument,
    data_dir: DataOption = None,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Show a dataset's card, digest, size, range of κ, and the rows that cannot be used."""
    from harness.api import load_dataset
    from harness.cli.output import print_json, print_table

    dataset = load_dataset(name, data_dir=data_dir, plugins=plugin or ())
    facts = {
        **{key: value for key, value in dataset.card.model_dump().items() if value},
        "usable rows": len(dataset),
        "formulas": len(set(dataset.formulas)),
        "κ range, W/(m·K)": f"{dataset.kappa.min():.4g} … {dataset.kappa.max():.4g}",
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


@datasets.command()
def fetch(name: NameArgument, data_dir: DataOption = None, plugin: PluginOption = None) -> None:
    """Make sure that a dataset is on this machine, downloading it where that is needed."""
    from harness.api import load_dataset

    dataset = load_dataset(name, data_dir=data_dir, plugins=plugin or ())
    print(f"{name}: {len(dataset)} usable rows, digest {dataset.digest[:16]}")
