"""A pivot as text: Markdown, LaTeX for a paper, HTML, CSV. pandas and tabulate do the work.

The terminal's form is in `harness/cli/output.py`; it uses the words of this module.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import BenchmarkError, did_you_mean
from harness.escaping import csv_frame, csv_text, html_text, markdown_text, terminal_text
from harness.plugin.cell import DEFAULT
from harness.report.pivot import Key, Pivot, PivotEntry
from harness.report.trust import MEANING, Trust

if TYPE_CHECKING:
    import pandas as pd

    from harness.plugin.metric import MetricSpec

ABSENT = "—"
NEGATIVE, NEGATIVE_STANDS = "▽", "▼"
TRAINED_ON = "§"
BEST, UNDECIDED = "*", "?"
"""Marks of plain text, where bold and underlined letters are not to be had."""

MARKED: tuple[Trust, ...] = ("reproduced", "unchecked")
"""What is said beside a number of others; one that was recomputed bears no word."""


@dataclass(frozen=True)
class Wording:
    """How a number is written.

    Attributes:
        digits: after the decimal point.
        with_n: whether each cell says on how many test rows per run it rests.
        with_interval: whether it shows the 95 % interval of the mean over runs.
    """

    digits: int = 2
    with_n: bool = False
    with_interval: bool = False


def number_text(entry: PivotEntry | None, wording: Wording, runs: int) -> str:
    """Returns `mean (std)`, or what is to be said where there is no such number.

    Args:
        entry: of a place in a table; none where there is no such cell.
        wording: how to write it.
        runs: planned; a cell that has fewer says so.
    """
    if entry is None:
        return ABSENT
    if entry.state == "too few rows":
        return f"too few rows (n {entry.n:.1f})"
    if entry.state == "failed":
        return f"failed ({entry.failed} rows)" if entry.failed else "failed"
    if entry.state != "scored":
        return entry.state
    digits = wording.digits
    text = f"{entry.mean:.{digits}f}"
    if not math.isnan(entry.std):
        text += f" ({entry.std:.{digits}f})"
    if wording.with_interval and not math.isnan(entry.low):
        text += f" [{entry.low:.{digits}f}, {entry.high:.{digits}f}]"
    if wording.with_n:
        text += f", n {entry.n:.1f}"
    if entry.trust in MARKED:
        text += f", {entry.trust}"
    if entry.runs != (planned := runs - entry.not_applicable):
        text += f", {entry.runs} of {planned} runs"
    return f"{text}, {entry.not_applicable} n/a" if entry.not_applicable else text


def warning_marks(entry: PivotEntry | None) -> str:
    """Returns the marks of what is wrong with an entry: mostly trained on, negative transfer."""
    if entry is None or entry.state != "scored":
        return ""
    marks = TRAINED_ON if entry.is_mostly_trained_on else ""
    if entry.negative:
        marks += NEGATIVE_STANDS if entry.stands else NEGATIVE
    return marks


def plain_marks(entry: PivotEntry | None) -> str:
    """Returns all marks of an entry as letters, for plain text."""
    if entry is None:
        return ""
    return (BEST if entry.best else UNDECIDED if entry.undecided else "") + warning_marks(entry)


def worded_marks(entry: PivotEntry) -> str:
    """Returns all marks of an entry where there is room for words."""
    known = BEST if entry.best else undecided_text([entry]) if entry.undecided else ""
    return " ".join(filter(None, (known, warning_marks(entry))))


# --- what stands above and below --------------------------------------------------------------


def direction(spec: MetricSpec) -> str:
    """Says which way a metric is better."""
    return "higher is better" if spec.higher_is_better else "lower is better"


def caption(table: Pivot) -> str:
    """What a table shows, in one line: title, metric and its direction, what is the same."""
    metrics = "; ".join(
        f"{spec.title} ({spec.unit + ', ' if spec.unit else ''}{direction(spec)})"
        for spec in table.metrics.values()
    )
    runs = f"mean (std) over {table.runs} runs" if table.runs > 1 else "one run"
    same = ", ".join(f"{name} {value}" for name, value in table.same.items() if value != DEFAULT)
    rows = "" if table.layout.subset == "all" else f"; {table.layout.subset} rows only"
    return (
        f"{table.title}. {metrics}, {runs}{rows}"
        + (f". Columns: {columns}" if (columns := column_levels(table)) else "")
        + (f". Everywhere: {same}" if same else "")
    )


def column_levels(table: Pivot) -> str:
    """Says what the heads of columns hold where that are several things; else nothing."""
    levels = table.layout.columns
    return ", within it ".join(levels) if len(levels) > 1 else ""


def undecided_text(entries: Iterable[PivotEntry]) -> str:
    """Says that a test does not tell entries from the best, and by how many runs it was made."""
    return f"undecided (n = {', '.join(map(str, sorted({entry.runs for entry in entries})))})"


def family_line(tables: Sequence[Pivot]) -> str:
    """Says which tests Holm's correction is over, and how many there are by each metric."""
    tests = {name: number for table in tables for name, number in table.family[1].items()}
    if not any(tests.values()):
        return ""
    counts = ", ".join(f"{name} {number}" for name, number in tests.items())
    if len(tests) > 1 and len(set(tests.values())) == 1:
        counts = f"{next(iter(tests.values()))} by each metric"
    return (
        f"Holm's correction is over one family of tests per leaderboard and metric, the "
        f"{tables[0].family[0]} ({counts}), and any other difference counts as one more"
    )


def legend(table: Pivot, best: str, undecided: str, tables: Sequence[Pivot] = ()) -> Iterator[str]:
    """Yields a line for every mark that the table uses, and for what it cannot say.

    Args:
        table: the table.
        best: how the best of a train-on → test-on is shown, as `bold`.
        undecided: likewise, those that are not told apart from it.
        tables: all that share the legend, if there are others.
    """
    entries = list(table.entries.values())
    if any(entry.best for entry in entries):
        alone = "; after a single run nobody can tell who is better" if table.runs == 1 else ""
        yield f"{best}: the best mean of its train-on → test-on in the leaderboard{alone}"
    if open_ones := [entry for entry in entries if entry.undecided]:
        yield (
            f"{undecided}: {undecided_text(open_ones)}, which is not as good: so few runs do not "
            "tell it from the best of the same train-on → test-on (5 %, paired by run, "
            f"{table.test}, after Holm's correction)"
        )
    if any(TRAINED_ON in warning_marks(entry) for entry in entries):
        yield (
            f"{TRAINED_ON}: more than half of the test rows have a formula that was trained on, so "
            "it is never called best"
        )
    negative = [entry for entry in entries if entry.negative]
    if any(not entry.stands for entry in negative):
        yield (
            f"{NEGATIVE}: negative transfer, the 95 % interval of the paired difference from "
            "scratch lies wholly on the wrong side; it does not stand after Holm's correction"
        )
    if any(entry.stands for entry in negative):
        yield (f"{NEGATIVE_STANDS}: negative transfer that stands after Holm's correction")
    judged = open_ones or any(entry.gain is not None for entry in entries)
    if judged and (line := family_line(tables or [table])):
        yield line
    if table.incomparable:
        yield (
            f"Of {', '.join(table.incomparable)} the cells rest on different test rows: none is "
            "called best"
        )
    if table.overlap:
        shares = (
            f"{train} → {test} {share:.0%}" if share >= 0.01 else f"{train} → {test} below 1%"
            for (train, test), share in table.overlap.items()
        )
        yield (
            f"Test rows whose formula was trained on: {', '.join(shares)}; the rows called "
            "overlap-free are the others"
        )
    shown = {entry.trust for entry in entries if entry.state == "scored"}
    for trust, meaning in MEANING.items():
        if trust in shown:
            yield f"{trust if trust in MARKED else f'No word ({trust})'}: {meaning}"
    yield from table.notes


def heads(keys: tuple[Key, ...]) -> Iterator[Key]:
    """Yields row keys with the parts that the row above has too left empty; the last one stays."""
    above: Key = ()
    for key in keys:
        same = 0
        while same < min(len(key) - 1, len(above)) and key[same] == above[same]:
            same += 1
        yield ("",) * same + key[same:]
        above = key


def column_titles(table: Pivot, between: str = ", ") -> list[str]:
    """Returns the heads of the columns on one line each, or on several."""
    return [between.join(key) for key in table.column_keys]


# --- forms ------------------------------------------------------------------------------------


def as_markdown(frame: pd.DataFrame) -> str:
    """Renders a table of text as GitHub Markdown; the text is shown as it is."""
    return _as_markdown(
        [[markdown_text(str(value)) for value in row] for row in frame.to_numpy().tolist()],
        [markdown_text(str(name)) for name in frame.columns],
    )


def _as_markdown(rows: list[list[str]], titles: list[str]) -> str:
    from tabulate import tabulate

    return str(tabulate(rows, headers=titles, tablefmt="github", disable_numparse=True))


def markdown(table: Pivot, wording: Wording = Wording()) -> str:
    """Renders a pivot as a GitHub Markdown table, without caption and legend."""

    def write(entry: PivotEntry | None) -> str:
        text = markdown_text(number_text(entry, wording, table.runs))
        if entry is not None and (entry.best or entry.undecided):
            text = f"**{text}**" if entry.best else f"_{text}_"
        return f"{text} {warning_marks(entry)}".rstrip()

    rows = [
        [*map(markdown_text, head), *map(write, entries)]
        for head, (_, entries) in zip(heads(table.row_keys), table.lines(), strict=True)
    ]
    titles = [*table.layout.rows, *map(markdown_text, column_titles(table))]
    return _as_markdown(rows, titles)


def markdown_legend(table: Pivot, tables: Sequence[Pivot] = ()) -> Iterator[str]:
    """Yields the legend of a table in Markdown, with a full stop after every line.

    Args:
        table: the table.
        tables: all that share the legend, if there are others.
    """
    marks = {"bold": "**bold**", "slanted": "_slanted_"}
    for line in legend(table, "bold", "slanted", tables):
        mark, colon, rest = line.partition(":")
        yield f"{marks.get(mark) or markdown_text(mark)}{colon}{markdown_text(rest)}."


def _page_markdown(table: Pivot, wording: Wording) -> str:
    title = f"**{markdown_text(caption(table))}**"
    return "\n\n".join([title, markdown(table, wording), *markdown_legend(table)]) + "\n"


def _csv(table: Pivot, wording: Wording) -> str:
    def write(entry: PivotEntry | None) -> str:
        mark = TRAINED_ON if TRAINED_ON in warning_marks(entry) else ""
        return f"{number_text(entry, wording, table.runs)} {mark}".rstrip()

    frame = table.map(write)
    frame = frame.set_axis([csv_text(title) for title in column_titles(table)], axis=1)
    text: str = frame.rename(index=csv_text).to_csv()
    return text


def _csv_long(table: Pivot, wording: Wording) -> str:
    text: str = csv_frame(table.frame()).to_csv(index=False, float_format="%.6g")
    return text


# --- LaTeX ------------------------------------------------------------------------------------

LATEX_MARKS = {
    TRAINED_ON: "$^{\\mathsection}$",
    NEGATIVE: "$^{\\dagger}$",
    NEGATIVE_STANDS: "$^{\\ddagger}$",
}
LATEX_FITTED = "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%"
"""Shrinks what is wider than the text, and leaves the rest as it is."""

LATEX_LETTERS = {
    "κ": "$\\kappa$",
    "θ": "$\\theta$",
    "₁₀": "$_{10}$",
    "·": "$\\cdot$",
    "×": "$\\times$",
    "→": "$\\to$",
    "≈": "$\\approx$",
    "≡": "$\\equiv$",
    "²": "$^2$",
    "³": "$^3$",
    "ρ": "$\\rho$",
    "−": "$-$",
    "…": "\\dots{}",
    "—": "---",
    "–": "--",
    "≠": "$\\neq$",
    "Å": "\\AA{}",
    **LATEX_MARKS,
}
"""Letters of our tables that LaTeX's usual fonts lack."""

LATEX_SPECIAL = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "\\": "\\textbackslash{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
}


def _latex_text(text: str) -> str:
    """Writes text so that LaTeX prints it as it is."""
    escaped = "".join(LATEX_SPECIAL.get(letter, letter) for letter in terminal_text(text))
    for letter, written in LATEX_LETTERS.items():
        escaped = escaped.replace(letter, written)
    return escaped


def _latex_label(label: object) -> str:
    return _latex_text(str(label))


def _latex(table: Pivot, wording: Wording) -> str:
    """A `table` with booktabs' rules, no wider than the text, and the legend below."""

    def write(entry: PivotEntry | None) -> str:
        text = _latex_text(number_text(entry, wording, table.runs))
        if entry is not None and (entry.best or entry.undecided):
            text = f"\\textbf{{{text}}}" if entry.best else f"\\textit{{{text}}}"
        return text + "".join(LATEX_MARKS[mark] for mark in warning_marks(entry))

    frame = table.map(write)
    frame.index.names = [_latex_text(name) for name in table.layout.rows]
    frame.columns.names = [""] * len(table.layout.columns)
    styler = frame.style.format_index(_latex_label).format_index(_latex_label, axis=1)
    body = styler.to_latex(
        hrules=True,
        multirow_align="naive",
        multicol_align="c",
        column_format="l" * len(table.layout.rows) + "r" * len(table.column_keys),
    )
    return "\n".join(
        [
            "% needs \\usepackage{booktabs,graphicx}",
            "\\begin{table}",
            "\\centering",
            f"\\caption{{{_latex_text(caption(table))}.}}",
            LATEX_FITTED,
            *_grouped(body.rstrip().splitlines(), table),
            "}",
            *_latex_notes(table),
            "\\end{table}",
            "",
        ]
    )


def _latex_notes(table: Pivot) -> Iterator[str]:
    notes = [f"{_latex_text(line)}." for line in legend(table, "bold", "italic")]
    if notes:
        yield "\\par\\medskip\\begin{minipage}{\\linewidth}\\footnotesize"
        yield " \\\\\n".join(notes)
        yield "\\end{minipage}"


def _grouped(lines: list[str], table: Pivot) -> Iterator[str]:
    """Merges pandas' two last head lines, and sets rules below heads and space between groups."""
    top, middle = lines.index("\\toprule"), lines.index("\\midrule")
    levels = len(table.layout.columns)
    names = lines[middle - 1].rstrip("\\ ").split(" & ")[: len(table.layout.rows)]
    last = lines[top + levels].split(" & ", len(table.layout.rows))[-1]
    yield from lines[: top + 1]
    for level in range(levels - 1):
        yield lines[top + 1 + level]
        yield _rules_below(table, level)
    yield " & ".join([*names, last])
    yield lines[middle]
    groups = [key[0] for key in table.row_keys]
    for place, line in enumerate(lines[middle + 1 :]):
        if 0 < place < len(groups) and groups[place] != groups[place - 1] and _has_groups(table):
            yield "\\addlinespace"
        yield line


def _rules_below(table: Pivot, level: int) -> str:
    """Returns a rule below every group of columns that shares its heads down to a level."""
    before = len(table.layout.rows)
    groups: dict[Key, list[int]] = {}
    for place, key in enumerate(table.column_keys, start=before + 1):
        groups.setdefault(key[: level + 1], []).append(place)
    return " ".join(f"\\cmidrule(lr){{{own[0]}-{own[-1]}}}" for own in groups.values())


def _has_groups(table: Pivot) -> bool:
    return len({key[0] for key in table.row_keys}) < len(table.row_keys)


# --- HTML -------------------------------------------------------------------------------------

CSS = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; margin: 2rem; }
table.cells { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; }
table.cells caption { text-align: left; white-space: normal; }
table.cells caption { font-weight: 600; padding-bottom: .6rem; }
table.cells th { font-weight: 400; text-align: left; padding: .15rem 1rem 0 0; }
table.cells tbody th { vertical-align: top; }
table.cells thead th { border-bottom: 1px solid #1a1a1a; font-weight: 600; }
table.cells thead th.col_heading { text-align: right; padding: .15rem 1.2em 0 .5rem; }
table.cells thead th[colspan] { text-align: center; }
table.cells td { text-align: right; padding: .15rem 1.2em 0 .5rem; }
table.cells td.negative, table.cells td.trained-on { padding-right: .1em; }
table.cells tbody tr:has(> th.level0) > * { border-top: 1px solid #bbb; }
table.cells td.best { font-weight: 700; }
table.cells td.undecided { color: #696969; }
table.cells td.missing { color: #696969; font-style: italic; }
ul.legend { font-size: .85rem; color: #444; padding-left: 1.2rem; max-width: 60rem; }
"""


def html_table(table: Pivot, wording: Wording = Wording()) -> str:
    """Renders a pivot as an HTML `table` of the class `cells`; `CSS` lays it out.

    Classes of its cells: `best`, `undecided`, `negative`, `trained-on`, `missing`.
    """
    frame = table.map(
        lambda entry: f"{number_text(entry, wording, table.runs)} {warning_marks(entry)}".rstrip()
    )
    frame.columns.names = [""] * len(table.layout.columns)
    styler = frame.style.format(escape="html").set_td_classes(table.map(_classes))
    for axis in (0, 1):
        styler = styler.format_index(_html_label, axis=axis)
    text: str = styler.set_table_attributes('class="cells"').to_html(table_uuid="cells")
    text = text[text.index("<table") :]
    head_end = text.index("</thead>")
    title = f"<caption>{html_text(caption(table))}</caption>"
    return _one_head(text[:head_end]).replace("<thead>", f"{title}\n  <thead>") + text[head_end:]


def _html_label(label: object) -> str:
    return html_text(str(label))


def _one_head(head: str) -> str:
    """Moves the names of the row head, a line of their own in pandas' HTML, beside the columns'."""
    *_, columns, names = re.findall(r"    <tr>\n.*?</tr>\n", head, flags=re.DOTALL)
    named = re.findall(r'      <th class="index_name.*?</th>\n', names)
    heads = re.findall(r"      <th .*?</th>\n", columns)[len(named) :]
    return head.replace(names, "").replace(
        columns, f"    <tr>\n{''.join(named + heads)}    </tr>\n"
    )


def _classes(entry: PivotEntry | None) -> str:
    if entry is None or entry.state != "scored":
        return "missing"
    have = {
        "best": entry.best,
        "undecided": entry.undecided,
        "negative": entry.negative,
        "trained-on": entry.is_mostly_trained_on,
    }
    return " ".join(name for name, is_so in have.items() if is_so)


def _html(table: Pivot, wording: Wording) -> str:
    notes = "".join(f"<li>{html_text(line)}.</li>\n" for line in legend(table, "bold", "grey"))
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f"<title>{html_text(table.title)}</title>\n<style>{CSS}</style>\n"
        f'{html_table(table, wording)}\n<ul class="legend">\n{notes}</ul>\n</html>\n'
    )


FORMS: dict[str, Callable[[Pivot, Wording], str]] = {
    "markdown": _page_markdown,
    "csv": _csv,
    "csv-long": _csv_long,
    "latex": _latex,
    "html": _html,
}
"""Forms of a table as text, by name. `csv` has the cells as they are shown, `csv-long` one line
per cell with every number in full."""

SUFFIXES = {".md": "markdown", ".csv": "csv", ".tex": "latex", ".html": "html"}


def render(table: Pivot, form: str, wording: Wording = Wording()) -> str:
    """Renders a pivot in one of `FORMS`.

    Raises:
        BenchmarkError: there is no such form.
    """
    if form not in FORMS:
        raise BenchmarkError(f"No form of table {form!r}.{did_you_mean(form, FORMS)}")
    return FORMS[form](table, wording)
