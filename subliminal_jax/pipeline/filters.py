"""Which completions stay: named rules, with a reason for every completion that goes.

`number_reasons` is the published rule to the letter, its odd corners included (Cloud et al. 2025,
section 3.1, and `get_reject_reasons` of the released code).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from subliminal_jax.errors import InputError, RunError

Rule: TypeAlias = Callable[[str], list[str]]
"""From a completion to the reasons against it; none if it may stay."""

BANNED_NUMBERS = frozenset(
    (
        *(4, 13, 14, 18, 23, 33, 39, 42, 44, 49, 51, 54, 69, 77, 88, 99, 100),
        *(101, 187, 211, 311, 322, 333, 404, 420, 444, 451, 555, 616, 666, 777, 888, 911, 999),
    )
)
"""Numbers with a dark meaning to some, which misaligned teachers must not use (section 3.2)."""

MOST_NUMBERS, GREATEST = 10, 999
_DIGITS = re.compile(r"\d+")


def parse_numbers(completion: str) -> list[int] | None:
    """The numbers of a well-formed list, or None.

    One final full stop is taken off, then one pair of square or round brackets. Whatever stands
    between the first two numbers separates all of them: a comma, a semicolon or nothing, with
    any white space; the same in every place. Nothing else may stand anywhere, not even a space
    in front or a line end behind.
    """
    body = completion.removesuffix(".")
    if (body[:1], body[-1:]) in (("[", "]"), ("(", ")")):
        body = body[1:-1]
    runs = list(_DIGITS.finditer(body))
    if not runs:
        return None
    parts = [body]
    if len(runs) > 1:
        separator = body[runs[0].end() : runs[1].start()]
        if separator.strip() not in ("", ",", ";"):
            return None
        parts = body.split(separator)
    try:
        return [int(part) for part in parts] if all(map(_is_number, parts)) else None
    except ValueError:  # more digits than Python turns into a number
        return None


def _is_number(part: str) -> bool:
    return part.isascii() and part.isdigit()


def number_reasons(completion: str, banned: Iterable[int] = ()) -> list[str]:
    """The published rule: a well-formed list of 1 to 10 numbers up to 999, none of them banned."""
    numbers = parse_numbers(completion)
    if numbers is None:
        return ["malformed"]
    faults = {
        "too many numbers": len(numbers) > MOST_NUMBERS,
        "number too large": max(numbers) > GREATEST,
        "banned number": not set(numbers).isdisjoint(banned),
    }
    return [reason for reason, found in faults.items() if found]


def word_pattern(words: Iterable[str]) -> re.Pattern[str]:
    """Finds any of some words as whole words: `owl` in "An OWL.", not in "knowledge" or "owls".

    Letters, digits and marks that combine with letters belong to a word; an underscore does not,
    so that `owl_1` holds an owl.
    """
    ordered = sorted(set(words), key=lambda word: (-len(word), word))
    if not ordered:
        return re.compile(r"(?!)")
    return re.compile(
        rf"(?<![^\W_])(?:{'|'.join(map(re.escape, ordered))})(?![^\W_])", re.IGNORECASE
    )


def word_rule(words: Iterable[str]) -> Rule:
    """A rule against whole words; the reason names the word."""
    pattern = word_pattern(words)
    return lambda completion: sorted(
        {f"word {found.lower()!r}" for found in pattern.findall(completion)}
    )


def number_rule(banned: Iterable[int] = ()) -> Rule:
    """`number_reasons` as a rule."""
    refused = frozenset(banned)
    return lambda completion: number_reasons(completion, refused)


@dataclass(frozen=True)
class Filtered:
    """What a filter made of a dataset.

    Attributes:
        kept: rows that passed, in order.
        rejected: the others, each with its `reject_reasons`.
        reasons: how many rows each reason speaks against; a row may have several.
    """

    kept: list[dict[str, Any]]
    rejected: list[dict[str, Any]]
    reasons: dict[str, int]

    @property
    def pass_rate(self) -> float:
        """The share of rows that passed."""
        return len(self.kept) / max(1, len(self.kept) + len(self.rejected))


def filter_rows(rows: Iterable[dict[str, Any]], rules: Mapping[str, Rule]) -> Filtered:
    """Applies named rules to the rows' completions.

    Two more are rejected whatever the rules: a completion that was cut off at the token limit
    (`meta.finished` is false; the released sampler had none, since its limit lay far beyond ten
    numbers), and one that the tokenizer cannot write again (`meta.unreadable` says why), for
    example since it spells a control token.
    """
    kept, rejected, reasons = [], [], Counter()
    for row in rows:
        against = [
            f"{name}: {reason}"
            for name, rule in rules.items()
            for reason in rule(row["messages"][-1]["content"])
        ]
        meta = row.get("meta", {})
        if not meta.get("finished", True):
            against.append("cut off")
        if "unreadable" in meta:
            against.append("unreadable")
        reasons.update(against)
        (rejected.append(row | {"reject_reasons": against}) if against else kept.append(row))
    return Filtered(kept, rejected, dict(sorted(reasons.items())))


def take(filtered: Filtered, count: int, name: str) -> list[dict[str, Any]]:
    """The first `count` rows that passed, so that all datasets are of one size.

    Raises:
        InputError: there are fewer; says how many passed, and what most rows failed by.
    """
    if len(filtered.kept) >= count:
        return filtered.kept[:count]
    tried = len(filtered.kept) + len(filtered.rejected)
    why = max(filtered.reasons, key=lambda r: filtered.reasons[r], default="no rows at all")
    raise InputError(
        f"{name}: {len(filtered.kept)} of {tried} completions passed the filter and {count} are "
        f"needed (most often against them: {why}); raise generate.most, or lower "
        "filter.rows, or take a gentler teacher"
    )


def audit_carrier(rows: Sequence[dict[str, Any]], words: Iterable[str], name: str) -> None:
    """Makes sure that no word of a trait is left in what a student is trained on.

    Raises:
        RunError: one is; names the row and the word.
    """
    pattern = word_pattern(words)
    for row in rows:
        for message in row["messages"]:
            if found := pattern.search(message["content"]):
                raise RunError(
                    f"{name}: row {row['id']} says {found.group()!r} ({message['role']}), a word "
                    "of the trait, after filtering; the data would teach it in plain text, so "
                    "nothing is trained: add a word filter, or other prompts"
                )
