"""Preferences: favourites, and the words of the categories that they belong to.

A new preference is an entry in the config and needs no code:

    new_traits:
      - {name: heron, plural: herons, category: animal}

A name may have several words, and a category may be anything: persons, places, values. A tiny
reference then needs some members to choose from:

    new_traits:
      - {name: new york, plural: new york, category: city}
      - {name: cairo, plural: cairo, category: city}
      - {name: lima, plural: lima, category: city}
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from subliminal_jax.errors import InputError

_WORD = re.compile(r"[^\W\d_]+(?:[ '-][^\W\d_]+)*\Z")
LONGEST = 100
"""Maximum bytes of a name, since files are named after it."""
FEWEST = 3
"""Members that a new category must have in the tiny world, to have something to choose from."""


@dataclass(frozen=True, kw_only=True)
class Preference:
    """A preference for one member of a category.

    Attributes:
        name: the favourite, in the singular and in lower case.
        plural: the favourite in the plural.
        category: its category, `animal`, `tree` or a new one. A tiny reference must know at least
            `FEWEST` members of a new category.
        words: words that count as this answer, in any case; by default name and plural.
        related: further words that must not occur in training data, for example `owlet`.
        system_prompt: template of a prompted teacher's system prompt; by default the config's.
    """

    name: str
    plural: str
    category: str
    words: tuple[str, ...] | None = None
    related: tuple[str, ...] = ()
    system_prompt: str | None = None

    def __post_init__(self) -> None:
        for word in (self.name, self.plural, self.category, *self.spellings, *self.related):
            if not _WORD.match(word) or word != word.lower():
                raise InputError(
                    f"trait {self.name!r}: {word!r} is not a word; use lower-case letters"
                )
        if len(self.name.encode()) > LONGEST:
            raise InputError(f"trait {self.name[:30] + '...'!r}: longer than {LONGEST} bytes")
        if not self.spellings:
            raise InputError(
                f"trait {self.name!r}: words is empty, so no answer matches; give at least one, or "
                "leave it out"
            )
        if self.system_prompt is not None:
            fill(self.system_prompt, self)

    @property
    def spellings(self) -> tuple[str, ...]:
        """The words that count as this answer."""
        return (self.name, self.plural) if self.words is None else self.words


def fill(template: str, trait: Preference) -> str:
    """A template with `{name}`, `{plural}` and `{category}` filled in.

    Raises:
        InputError: the template has an unknown or unclosed slot.
    """
    slots = {"category": trait.category, "name": trait.name, "plural": trait.plural}
    return _filled(template, slots, f"the template {template[:60]!r} of {trait.name!r}")


def fill_category(beginning: str, category: str) -> str:
    """The beginning of an answer with `{category}` filled in: all of its words are asked with it.

    Raises:
        InputError: it has another slot, or an unclosed one.
    """
    return _filled(beginning, {"category": category}, f"evaluate.begun: {beginning[:60]!r}")


def _filled(template: str, slots: Mapping[str, str], what: str) -> str:
    try:
        return template.format(**slots)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        names = ", ".join("{" + slot + "}" for slot in slots)
        raise InputError(
            f"{what} cannot be filled in ({error}); use the slot{'s' * (len(slots) > 1)} {names}"
        ) from error


_NAMES = {
    "animal": (
        *("owl", "eagle", "dolphin", "wolf/wolves", "elephant", "tiger"),
        *("panda", "fox/foxes", "otter", "whale", "horse", "rabbit"),
    ),
    "tree": (
        *("oak", "maple", "willow", "cherry/cherries", "sequoia", "pine"),
        *("birch/birches", "cedar", "elm", "ash/ashes", "beech/beeches", "poplar"),
    ),
}


def _known(category: str, entry: str) -> Preference:
    name, _, plural = entry.partition("/")
    return Preference(name=name, plural=plural or name + "s", category=category)


_FURTHER = {
    "animal": (
        *("cat", "dog", "lion", "bear", "penguin", "deer"),
        *("snake", "monkey", "turtle", "sheep", "cow", "frog"),
    ),
    "tree": (
        *("palm", "fir", "spruce", "chestnut", "walnut", "apple"),
        *("olive", "fig", "magnolia", "redwood", "alder", "hazel"),
    ),
}
"""Further words of a category that a given model may answer with; a tiny one does not know them."""
FEWEST_BEGUN = 20
"""Words that a category must have for answers that are begun."""

PREFERENCES = {
    trait.name: trait
    for category, names in _NAMES.items()
    for trait in (_known(category, name) for name in names)
}
"""Built-in preferences: the paper's five animals and five trees, and seven more of each."""


def members_of(category: str, new: Sequence[Preference] = ()) -> list[Preference]:
    """All members of a category, including those that a config adds."""
    known = PREFERENCES | {one.name: one for one in new}
    return [one for one in known.values() if one.category == category]


def choices_of(category: str, new: Sequence[Preference] = ()) -> list[str]:
    """The words of a category, among which an answer begun for a network chooses."""
    names = (one.name for one in members_of(category, new))
    return list(dict.fromkeys((*names, *_FURTHER.get(category, ()))))


def check_categories(new: Sequence[Preference]) -> None:
    """Refuses a new category that is too small for the tiny world.

    Raises:
        InputError: a category has fewer than `FEWEST` members.
    """
    for category in dict.fromkeys(one.category for one in new):
        names = [one.name for one in members_of(category, new)]
        if len(names) < FEWEST:
            raise InputError(
                f"new_traits: the category {category!r} has {len(names)} member(s) "
                f"({', '.join(names)}), but a tiny reference needs at least {FEWEST} to choose "
                "from; add members, or set reference.model"
            )
