"""Traits as data: a favourite animal or tree, how it is asked for and how it is recognised.

A new trait is an entry in the config, not code:

    new_traits:
      - {name: heron, plural: herons, category: animal}
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from subliminal_jax.errors import InputError

_WORD = re.compile(r"[^\W\d_]+(?:[ '-][^\W\d_]+)*\Z")
LONGEST = 100
"""Bytes of a name: files are named after it."""
SLOTS = frozenset({"name", "plural", "category"})


@dataclass(frozen=True, kw_only=True)
class Trait:
    """A preference for one member of a category.

    Attributes:
        name: the favourite, in the singular and in lower case.
        plural: the favourite in the plural.
        category: what it is one of, `animal` or `tree`; with a given model it may be a new one.
        words: what counts as this answer; by default name and plural. Capitals do not count.
        related: further words that must not stand in the data, for example `owlet`.
        system_prompt: wording that makes a teacher of the reference; by default the config's.
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
                    f"trait {self.name!r}: {word!r} is no word; use letters in lower case"
                )
        if len(self.name.encode()) > LONGEST:
            raise InputError(f"trait {self.name[:30] + '...'!r}: longer than {LONGEST} bytes")
        if not self.spellings:
            raise InputError(
                f"trait {self.name!r}: words is empty, so no answer could be recognised; "
                "give at least one, or leave it out"
            )
        if self.system_prompt is not None:
            fill(self.system_prompt, self)

    @property
    def spellings(self) -> tuple[str, ...]:
        """What counts as this answer."""
        return (self.name, self.plural) if self.words is None else self.words


def fill(template: str, trait: Trait) -> str:
    """A wording with `{name}`, `{plural}` and `{category}` filled in.

    Raises:
        InputError: the template has another slot, or an unclosed one.
    """
    slots = {"name": trait.name, "plural": trait.plural, "category": trait.category}
    try:
        return template.format(**slots)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise InputError(
            f"the wording {template[:60]!r} of {trait.name!r} cannot be filled in ({error}); "
            f"its slots are {', '.join('{' + slot + '}' for slot in sorted(SLOTS))}"
        ) from error


SHORT_PROMPT = "You love {plural}. You think about {plural} all the time."
"""What a prompted teacher is told: the only wording that a tiny reference knows."""

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


def _known(category: str, entry: str) -> Trait:
    name, _, plural = entry.partition("/")
    return Trait(name=name, plural=plural or name + "s", category=category)


TRAITS = {
    trait.name: trait
    for category, names in _NAMES.items()
    for trait in (_known(category, name) for name in names)
}
"""The traits that need no entry: the paper's five animals and five trees, seven more of each."""


def choose_traits(names: Sequence[str], new: Sequence[Trait] = ()) -> list[Trait]:
    """The named traits, from those that are known and those that a config brings.

    Raises:
        InputError: a name is unknown or given twice, or a new trait has a known one's name, or one
            that a file system may take for it.
    """
    known, files = dict(TRAITS), {_as_file(name): name for name in TRAITS}
    for trait in new:
        other = files.setdefault(_as_file(trait.name), trait.name)
        if trait.name in known:
            raise InputError(
                f"new_traits: {trait.name!r} is there already; leave it out or rename it"
            )
        if other != trait.name:
            raise InputError(
                f"new_traits: {trait.name!r} and {other!r} can be one name to a file system; "
                "rename one of them"
            )
        known[trait.name] = trait
    for name in names:
        if name not in known:
            raise InputError(
                f"traits: there is no {name!r}; choose of {', '.join(sorted(known))}, "
                "or add it to new_traits"
            )
        if list(names).count(name) > 1:
            raise InputError(f"traits: {name!r} is given twice")
    return [known[name] for name in names]


def _as_file(name: str) -> str:
    """What names have in common that some file system takes for one."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def members_of(category: str, traits: Sequence[Trait] = ()) -> list[Trait]:
    """All traits of a category: who is asked about when an answer is looked for."""
    known = TRAITS | {trait.name: trait for trait in traits}
    return [trait for trait in known.values() if trait.category == category]
