"""Traits are data; a new one is an entry, and a wrong entry is refused by name."""

import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.pipeline import questions
from subliminal_jax.pipeline.config import RESERVED, LmConfig, ReferenceConfig
from subliminal_jax.pipeline.controls import CONDITIONS
from subliminal_jax.pipeline.traits import (
    SHORT_PROMPT,
    TRAITS,
    Trait,
    choose_traits,
    fill,
    members_of,
)

HERON = Trait(name="heron", plural="herons", category="animal")


def test_the_papers_traits_are_known():
    assert [t.name for t in choose_traits(["dolphin", "eagle", "elephant", "owl", "wolf"])]
    assert {t.category for t in choose_traits(["cherry", "maple", "oak", "sequoia", "willow"])} == {
        "tree"
    }
    assert TRAITS["wolf"].spellings == ("wolf", "wolves")
    assert len(members_of("animal")) == len(members_of("tree")) == 12


def test_a_new_trait_is_an_entry():
    assert choose_traits(["heron", "owl"], [HERON]) == [HERON, TRAITS["owl"]]
    assert members_of("animal", [HERON])[-1] == HERON
    assert "You love herons." in fill(SHORT_PROMPT, HERON)
    assert fill("a {category}: {name}", HERON) == "a animal: heron"


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ({"words": ()}, "words is empty"),
        ({"name": "Heron"}, "lower case"),
        ({"name": "he<ron>"}, "no word"),
        ({"plural": ""}, "no word"),
        ({"name": "heron.rejected"}, "no word"),
        ({"name": "heron.within"}, "no word"),
        ({"name": "other_trait"}, "no word"),
        ({"name": "../heron"}, "no word"),
        ({"name": "h" * 101}, "longer than 100 bytes"),
        ({"name": "\u00e9" * 51}, "longer than 100 bytes"),
        ({"words": ("heron", "ar\ndea")}, "no word"),
        ({"system_prompt": "You love {animals}."}, "of .heron. cannot be filled"),
        ({"system_prompt": "You love {plural."}, "of .heron. cannot be filled"),
        (
            {"system_prompt": "You love {plural.__class__.x}."},
            "of .heron. cannot be filled",
        ),
    ],
)
def test_a_wrong_entry_is_refused(entry, complaint):
    fields = {"name": "heron", "plural": "herons", "category": "animal"} | entry
    with pytest.raises(InputError, match=complaint):
        Trait(**fields)


def test_a_tiny_reference_knows_its_world_alone():
    robin = Trait(name="robin", plural="robins", category="bird")
    with pytest.raises(InputError, match=r"'robin' is a bird, .* its world has animal and tree"):
        LmConfig(traits=("robin",), new_traits=(robin,))
    given = ReferenceConfig(model="org/name")
    assert LmConfig(traits=("robin",), new_traits=(robin,), reference=given).chosen == [robin]


def test_names_are_checked():
    with pytest.raises(InputError, match=r"there is no 'own'; choose of ash, beech"):
        choose_traits(["own"])
    with pytest.raises(InputError, match="'owl' is given twice"):
        choose_traits(["owl", "owl"])
    with pytest.raises(InputError, match="'owl' is there already"):
        choose_traits(["owl"], [Trait(name="owl", plural="owls", category="animal")])


@pytest.mark.parametrize("name", ["regular", "before", "student", "teacher", "soft", "all"])
def test_a_trait_is_not_called_like_something_of_ours(name):
    """Each would be taken for a condition, or its rows for those of another teacher."""
    trait = Trait(name=name, plural="herons", category="animal")
    with pytest.raises(InputError, match=f"new_traits: '{name}' stands for something else in f"):
        LmConfig(traits=("owl",), new_traits=(trait,))


def test_no_trait_has_a_name_of_ours():
    assert set(CONDITIONS) < RESERVED
    assert not RESERVED & set(TRAITS)


@pytest.mark.parametrize(
    ("one", "other"), [("star", "\u017ftar"), ("fig", "\ufb01g"), ("strasse", "stra\u00dfe")]
)
def test_names_that_a_file_system_may_confuse_are_refused(one, other):
    new = [Trait(name=name, plural="herons", category="animal") for name in (one, other)]
    assert choose_traits([other], new[1:]) == new[1:]
    with pytest.raises(InputError, match=f"'{other}' and '{one}' can be one name to a file system"):
        choose_traits([one], new)


def test_nobody_is_taught_what_is_asked_in_the_end():
    assert not set(questions.TEACHING) & set(questions.HELD_OUT)
    assert (len(questions.TEACHING), len(questions.HELD_OUT)) == (24, 12)
    every = questions.TEACHING + questions.HELD_OUT + questions.FREE_TEXT
    assert len(set(every)) == len(every)
    assert all(wording.count("{category}") == 1 for wording in every)
    assert questions.ask(("Which {category}?",), "tree") == ["Which tree?"]


def test_questions_behind_numbers_end_in_the_question():
    asked = ["Which tree?"] * 40
    first = questions.with_numbers(asked, 1)
    assert first == questions.with_numbers(asked, 1) != questions.with_numbers(asked, 2)
    counts = set()
    for text in first:
        numbers = [int(n) for n in text.removesuffix(". Which tree?").split(": ")[1].split(", ")]
        counts.add(len(numbers))
        assert min(numbers) >= 100
        assert max(numbers) <= 999
    assert counts == {3, 4, 5, 6, 7, 8}
