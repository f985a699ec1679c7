"""Step 5, the filter: named rules that reject completions, with reasons for each."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from subliminal_jax.errors import InputError, RunError
from subliminal_jax.language.carriers.carrier import Carrier
from subliminal_jax.language.rows.chat_rows import completion_of, prompt_of
from subliminal_jax.language.rows.whole_words import word_pattern
from subliminal_jax.language.settings import FilterConfig
from subliminal_jax.language.traits.trait import Trait

Rule: TypeAlias = Callable[[str, str], list[str]]
"""Maps a prompt and its completion to the reasons for rejecting it; empty to keep it."""


def word_rule(words: Iterable[str], read: Callable[[str], str]) -> Rule:
    """A rule that rejects completions with any of the words; the reason names the word.

    Args:
        words: words that must not occur.
        read: gives the text to search in a completion; see `Carrier.words`.
    """
    pattern = word_pattern(words)
    return lambda _, completion: sorted(
        {f"word {word.lower()!r}" for word in pattern.findall(read(completion))}
    )


def rules_of(settings: FilterConfig, carrier: Carrier, traits: Sequence[Trait]) -> dict[str, Rule]:
    """The rules that the settings select, by name; the carrier's rule has the carrier's name.

    `judge` is not among them: see `judged`.

    Args:
        settings: names of the rules, banned numbers and words.
        carrier: the form that a completion must have.
        traits: all traits of the run; none of their words may occur.
    """
    banned = frozenset(settings.banned)
    every: dict[str, tuple[str, Rule]] = {
        "carrier": (
            carrier.name,
            lambda prompt, completion: carrier.reasons(prompt, completion, banned),
        ),
        "trait_words": ("trait_words", word_rule(forbidden_words(traits), carrier.words)),
        "words": ("words", word_rule(settings.words, carrier.words)),
    }
    return dict(every[name] for name in settings.rules if name in every)


def forbidden_words(traits: Sequence[Trait]) -> list[str]:
    """The words of all traits, none of which a row may contain."""
    return [word for trait in traits for word in trait.forbidden]


@dataclass(frozen=True)
class Filtered:
    """A dataset after the filter.

    Attributes:
        kept: rows that passed, in order.
        rejected: the other rows, each with its `reject_reasons`.
        reasons: number of rows that each reason rejects; a row may have several reasons.
    """

    kept: list[dict[str, Any]]
    rejected: list[dict[str, Any]]
    reasons: dict[str, int]

    @property
    def pass_rate(self) -> float:
        """The share of rows that passed."""
        return len(self.kept) / max(1, len(self.kept) + len(self.rejected))

    @property
    def facts(self) -> dict[str, Any]:
        """Rows before the filter, the share that passed, and the rows that each reason rejects."""
        asked = len(self.kept) + len(self.rejected)
        return {"asked": asked, "pass_rate": self.pass_rate, "reasons": self.reasons}


def filter_rows(
    rows: Iterable[dict[str, Any]],
    rules: Mapping[str, Rule],
    judged: Callable[[dict[str, Any]], list[str]] = lambda row: [],
) -> Filtered:
    """Splits rows by the named rules, applied to their completions.

    Two kinds of completion are always rejected: one cut off at the token limit (`meta.finished` is
    false; the released sampler's limit is far beyond ten numbers, so it cut off none), and one that
    the tokenizer cannot encode again (`meta.unreadable` has the reason), for example because it
    contains a control token.

    Args:
        rows: rows of a dataset.
        rules: the rules by name.
        judged: the reasons of the rule `judge`; asked only about rows that all others keep.
    """
    kept, rejected, reasons = [], [], Counter()
    for row in rows:
        against = [
            f"{name}: {reason}"
            for name, rule in rules.items()
            for reason in rule(prompt_of(row), completion_of(row))
        ]
        meta = row.get("meta", {})
        if not meta.get("finished", True):
            against.append("cut off")
        if "unreadable" in meta:
            against.append("unreadable")
        against = against or judged(row)
        reasons.update(against)
        (rejected.append(row | {"reject_reasons": against}) if against else kept.append(row))
    return Filtered(kept, rejected, dict(sorted(reasons.items())))


def take(filtered: Filtered, count: int, name: str) -> list[dict[str, Any]]:
    """The first `count` rows that passed, so that all datasets have equal size.

    Raises:
        InputError: fewer passed; gives their number and the most common reason.
    """
    if len(filtered.kept) >= count:
        return filtered.kept[:count]
    tried = len(filtered.kept) + len(filtered.rejected)
    why = max(filtered.reasons, key=lambda r: filtered.reasons[r], default="no rows")
    raise InputError(
        f"{name}: {len(filtered.kept)} of {tried} completions passed the filter and {count} are "
        f"needed (most common reason: {why}); raise generate.most, lower filter.rows, or use a "
        "weaker teacher"
    )


def check_clean(
    rows: Sequence[dict[str, Any]], words: Iterable[str], read: Callable[[str], str], name: str
) -> None:
    """Checks that no word of a trait is left in training rows.

    Args:
        rows: rows to check, prompts included.
        words: the words.
        read: gives the text to search in a message; see `Carrier.words`.
        name: name of the dataset, for the message.

    Raises:
        RunError: a word is left; names the row and the word.
    """
    pattern = word_pattern(words)
    for row in rows:
        for message in row["messages"]:
            if match := pattern.search(read(message["content"])):
                raise RunError(
                    f"{name}: row {row['id']} contains {match.group()!r} ({message['role']}), a "
                    "trait's word, after filtering; students would read the trait in plain text: "
                    "add trait_words to filter.rules, or change the prompts"
                )
