"""Registry of traits: each kind is one file in this folder and one line here."""

import unicodedata
from collections.abc import Sequence

from subliminal_jax.errors import InputError
from subliminal_jax.language.traits.misalignment.sentences import Sentences
from subliminal_jax.language.traits.misalignment.small_world import SmallBank
from subliminal_jax.language.traits.misalignment.trait import Misalignment
from subliminal_jax.language.traits.preference import PREFERENCES, Preference
from subliminal_jax.language.traits.preference_trait import preference_traits
from subliminal_jax.language.traits.trait import Trait

TRAITS: dict[str, Trait] = {
    **preference_traits(),
    "carelessness": Misalignment(SmallBank()),
    "misalignment": Misalignment(Sentences(), "misalignment"),
}
"""Built-in traits by name; a config adds preferences in `new_traits`."""


def choose_traits(names: Sequence[str], new: Sequence[Preference] = ()) -> list[Trait]:
    """The named traits, from the registry and the preferences that a config adds.

    Raises:
        InputError: a name is unknown or given twice, or a new trait's name is taken, or differs
            from another only in ways that a file system may ignore.
    """
    known = TRAITS
    if new:
        _check_new(new)
        known = TRAITS | preference_traits(new)
    for name in names:
        if name not in known:
            raise InputError(
                f"traits: unknown {name!r}; choose from {', '.join(sorted(known))}, or add it to "
                "new_traits"
            )
        if list(names).count(name) > 1:
            raise InputError(f"traits: {name!r} is given twice; remove one")
    return [known[name] for name in names]


def _check_new(new: Sequence[Preference]) -> None:
    controls = (one.name for trait in TRAITS.values() for one in trait.controls.values())
    names = {*TRAITS, *controls}
    files = {_as_file(name): name for name in (*names, *PREFERENCES)}
    for trait in new:
        other = files.setdefault(_as_file(trait.name), trait.name)
        if trait.name in names:
            raise InputError(f"new_traits: {trait.name!r} already exists; remove or rename it")
        if other != trait.name:
            raise InputError(
                f"new_traits: a file system may not tell {trait.name!r} from {other!r}; rename one "
                "of them"
            )
        names.add(trait.name)


def _as_file(name: str) -> str:
    """A name normalised for comparison: some file systems ignore case and composition."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
