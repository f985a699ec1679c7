"""Tables of text: for a terminal, a page and nothing else; numbers are kept elsewhere."""

import textwrap
from dataclasses import dataclass

WIDTH = 99  # fits a 100-column terminal


@dataclass(frozen=True)
class Table:
    """A heading, columns and rows of text.

    Attributes:
        title: what the table shows.
        columns: a name each.
        rows: as many texts each as there are columns.
        note: what a reader must know to read it, or nothing.
        names: how many columns, from the left, hold names and not numbers.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    names: int = 1

    def __post_init__(self) -> None:
        if wrong := [row for row in self.rows if len(row) != len(self.columns)]:
            raise ValueError(f"{self.title}: {wrong[0]} does not fit the columns {self.columns}")

    def text(self) -> str:
        """The table in aligned columns, names to the left and numbers to the right."""
        lines = [self.columns, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

        def aligned(row: tuple[str, ...]) -> str:
            cells = [
                cell.ljust(width) if place < self.names else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            return "  ".join(cells).rstrip()

        rule = "  ".join("-" * width for width in widths)
        text = [self.title, aligned(self.columns), rule, *map(aligned, self.rows)]
        return "\n".join(text + textwrap.wrap(self.note, WIDTH)) + "\n"
