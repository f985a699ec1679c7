"""What a language models' benchmark found, in words, tables and CSV rows."""

import os
import statistics
from collections.abc import Mapping
from typing import Any

from benchmarks.language import DEEP, PYTORCH
from subliminal_jax.report.tables import CsvRows, Table


def finding(results: Mapping[str, Any]) -> str:
    """Return tokens per second in words; where PyTorch was timed, also ours over PyTorch's."""
    speeds, said = results["speeds"], []
    theirs_in = " in float32" if results.get("precision") == "bfloat16" else ""
    for name, speed in speeds.items():
        if not name.endswith(PYTORCH):
            said.append(f"{name} {speed['tokens']:,.0f} tokens/s")
            if (theirs := speeds.get(name + PYTORCH)) is not None:
                factor = speed["tokens"] / theirs["tokens"]
                said[-1] += f" ({factor:.2f} times PyTorch's{theirs_in})"
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}."


def blocks(results: Mapping[str, Any]) -> list[Table]:
    """Return tokens per second, where PyTorch was timed also ours over PyTorch's, and the rest."""
    speeds, parameters = results["speeds"], results["parameters"]
    rows = []
    for name, speed in speeds.items():
        if name.endswith(PYTORCH):
            continue
        seconds = statistics.median(speed["seconds"])
        row = [name, f"{speed['tokens']:,.0f}", f"{seconds:.2f}", f"{speed['first']:.2f}", "", ""]
        if (theirs := speeds.get(name + PYTORCH)) is not None:
            row[4:] = [f"{theirs['tokens']:,.0f}", f"{speed['tokens'] / theirs['tokens']:.2f}"]
        rows.append(tuple(row))
    of = (
        f"tiny: {parameters['tiny']:,} parameters; all else: {parameters['medium']:,}, "
        f"multiplied in {results['precision']}; "
        f"{os.cpu_count()} processor cores, {results['backend']}"
    )
    columns = ("work", "tokens/s", "seconds", "first", "PyTorch", "factor")
    note = "Seconds: of one repetition; first: of the first, which compiles; prefill is included."
    if any(name.endswith(PYTORCH) for name in speeds):
        note += " PyTorch has float32."
    return [Table(of, columns, tuple(rows), note), _beside(results)]


def _beside(results: Mapping[str, Any]) -> Table:
    notes, shares = results["speeds"]["tiny sampling"]["notes"], results["padding"]
    deep, memory = results["compilation"], results["peak_memory"]
    rows = (
        ("tiny sampling: completions", f"{notes['rows']:,.0f}"),
        ("their mean tokens", f"{notes['mean_length']:.1f}"),
        ("sampled tokens that were used", f"{notes['busy']:.0%}"),
        ("padding, a row per sequence", f"{shares['padded']:.1%}"),
        ("padding, packed", f"{shares['packed']:.1%}"),
        (f"{DEEP.layers} tiny layers, to compile a step", f"{deep['compile']:.1f} s"),
        (f"{DEEP.layers} tiny layers, to a first answer", f"{deep['first_answer']:.1f} s"),
        ("peak memory before PyTorch", f"{memory['bytes'] / 1e9:.2f} GB {memory['whose']}"),
    )
    return Table("Beside", ("what", "measured"), rows)


def csv_rows(results: Mapping[str, Any]) -> CsvRows:
    """Return a CSV row for every repetition; number 0 is the first run, which compiles."""
    rows = [
        (name, number, seconds)
        for name, speed in results["speeds"].items()
        for number, seconds in enumerate([speed["first"], *speed["seconds"]])
    ]
    return ("work", "repetition", "seconds"), rows
