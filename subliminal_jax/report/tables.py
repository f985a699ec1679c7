"""Tables of text for a terminal or a page, and CSV in full precision."""

import csv
import io
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

WIDTH = 99  # fits a 100-column terminal
GIGA = 10**9
NAME_WIDTH = 38
LONGEST_NUMBER = 30
"""Letters of the longest number with its interval; a longer cell is text."""


@dataclass(frozen=True)
class Table:
    """A heading, columns and rows of text.

    Attributes:
        title: what the table shows; empty for none.
        columns: names of the columns.
        rows: a text for each column.
        note: what a reader must know to read it; empty for none.
        names: number of columns, from the left, that hold names, not numbers.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    names: int = 1

    def __post_init__(self) -> None:
        if wrong := [row for row in self.rows if len(row) != len(self.columns)]:
            raise ValueError(f"{self.title}: {wrong[0]} does not fit the columns {self.columns}")

    @property
    def of_text(self) -> tuple[bool, ...]:
        """Whether each column holds text, which a page aligns to the left and wraps.

        Names are text, and so is a column with a cell that is longer than any number.
        """
        return tuple(
            place < self.names or any(len(row[place]) > LONGEST_NUMBER for row in self.rows)
            for place in range(len(self.columns))
        )

    def text(self) -> str:
        """Return the table in aligned columns, names to the left and numbers to the right.

        A long name in the first column continues on the next lines.
        """
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        widths[0] = min(widths[0], NAME_WIDTH)

        def aligned(row: tuple[str, ...]) -> list[str]:
            first, *rest = textwrap.wrap(row[0], widths[0]) or [""]
            cells = [
                cell.ljust(width) if place < self.names else cell.rjust(width)
                for place, (cell, width) in enumerate(zip((first, *row[1:]), widths, strict=True))
            ]
            return ["  ".join(cells).rstrip(), *(f"  {part}" for part in rest)]

        rule = "  ".join("-" * width for width in widths)
        text = [*([self.title] if self.title else []), *aligned(self.columns), rule]
        text += [line for row in self.rows for line in aligned(row)]
        return "\n".join(text + textwrap.wrap(self.note, WIDTH)) + "\n"


CsvRows: TypeAlias = tuple[Sequence[str], Iterable[Sequence[Any]]]
"""A header and the rows below it."""


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return CSV text: a header and the rows, numbers in full precision, None as an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
