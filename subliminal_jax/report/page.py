"""The report page: self-contained HTML for screens and paper."""

import base64
import importlib.resources
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jinja2

from subliminal_jax.report.results import duration
from subliminal_jax.report.tables import LONGEST_NUMBER, Table


@dataclass(frozen=True)
class Picture:
    """A figure of the run.

    Attributes:
        name: name of its files, without the suffix.
        shows: what it shows, for a reader who cannot see it.
    """

    name: str
    shows: str


@dataclass(frozen=True)
class Text:
    """Paragraphs under a title.

    Attributes:
        title: heading; empty for none.
        paragraphs: paragraphs of plain text.
        numbered: number them, as the steps of a procedure.
    """

    title: str
    paragraphs: tuple[str, ...]
    numbered: bool = False


Block: TypeAlias = Picture | Table | Text


@dataclass(frozen=True, kw_only=True)
class Page:
    """Contents of a report page.

    Attributes:
        experiment: name of the experiment, for the browser's tab.
        finding: one sentence; the page's heading.
        subtitle: what was measured on what.
        warning: what a reader must not overlook, or None.
        blocks: figures, tables and texts, from top to bottom.
        sections: settings, versions and times by title, at the bottom.
    """

    experiment: str
    finding: str
    subtitle: str
    blocks: Sequence[Block]
    sections: Mapping[str, Mapping[str, Any]]
    warning: str | None = None


def html_page(page: Page, pictures: Mapping[str, bytes]) -> str:
    """Return a page as self-contained HTML.

    Args:
        page: its contents; all are escaped, since a path or a model's answer may hold anything.
        pictures: PNG files by the names of the page's figures.
    """
    # Always on: the usual choice by file extension would not escape in a `.j2` template.
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = importlib.resources.files("subliminal_jax.report").joinpath("page.html.j2")
    return environment.from_string(source.read_text(encoding="utf-8")).render(
        page=page,
        blocks=[(type(block).__name__, block) for block in page.blocks],
        longest_number=LONGEST_NUMBER,
        pictures={name: base64.b64encode(png).decode("ascii") for name, png in pictures.items()},
        sections={title: _flat(entries) for title, entries in page.sections.items()},
    )


def run_sections(results: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the sections that every page has: settings, versions and times.

    Args:
        results: `config`, `environment` and `timing` are read, and `parts` of pooled runs.
    """
    environment = results["environment"]
    pooled = {"Pooled runs": results["parts"]} if "parts" in results else {}
    of = " of pooling them" if pooled else ""
    return pooled | {
        "Configuration": results["config"],
        f"Versions{of}": {
            "python": environment["python"],
            **environment["packages"],
            "platform": environment["platform"],
            "devices": environment["devices"],
            "git": environment["git"],
        },
        f"Time{of}": times(results),
    }


def times(results: Mapping[str, Any]) -> dict[str, str]:
    """Return how long a run took, in total and by phase, as text."""
    timing = results["timing"]
    seconds = {"total": timing["total_s"]}
    seconds |= {"compile": timing["compile_s"]} if "compile_s" in timing else {}
    seconds |= timing.get("phases", {})
    return {name: duration(value) for name, value in seconds.items()}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested values as text under dotted names."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.") if value else {f"{prefix}{name}": "none"}
        elif isinstance(value, list | tuple):
            flat[prefix + name] = ", ".join(map(str, value)) or "none"
        else:
            flat[prefix + name] = "none" if value is None else str(value)
    return flat
