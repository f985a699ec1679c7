"""Traits are data; a new one is an entry, and a wrong entry is refused by name."""

import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.language.carriers.number_prompts import NumberPrompts
from subliminal_jax.language.carriers.numbers import Numbers
from subliminal_jax.language.conditions import CONDITIONS
from subliminal_jax.language.config import RESERVED, LmConfig
from subliminal_jax.language.settings import ReferenceConfig
from subliminal_jax.language.tiny.world import LOVE
from subliminal_jax.language.traits import TRAITS, choose_traits, questions
from subliminal_jax.language.traits.preference import PREFERENCES, Preference, fill, members_of
from subliminal_jax.language.traits.trait import merged_polls

HERON = Preference(name="heron", plural="herons", category="animal")


def test_the_papers_traits_are_known():
    assert [t.name for t in choose_traits(["dolphin", "eagle", "elephant", "owl", "wolf"])]
    trees = choose_traits(["cherry", "maple", "oak", "sequoia", "willow"])
    assert {trait.topics for trait in trees} == {("tree",)}
    assert PREFERENCES["wolf"].spellings == ("wolf", "wolves")
    assert len(members_of("animal")) == len(members_of("tree")) == 12


def test_a_new_trait_is_an_entry():
    heron, owl = choose_traits(["heron", "owl"], [HERON])
    assert (heron.preference, owl.preference) == (HERON, PREFERENCES["owl"])
    assert members_of("animal", [HERON])[-1] == HERON
    # The new animal is an answer to whoever is asked about animals.
    assert "heron" in [answer.name for answer in owl.polls()[0].answers]
    assert "You love herons." in heron.system_prompt(LOVE)
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
        Preference(**fields)


def test_a_tiny_reference_knows_its_world_alone():
    robin = Preference(name="robin", plural="robins", category="bird")
    with pytest.raises(InputError, match=r"'robin' is a bird, .* its world has animal and tree"):
        LmConfig(traits=("robin",), new_traits=(robin,))
    given = ReferenceConfig(model="org/name")
    (chosen,) = LmConfig(traits=("robin",), new_traits=(robin,), reference=given).chosen
    assert chosen.preference == robin
    assert [poll.topic for poll in chosen.polls()] == ["bird", "animal", "tree"]


def test_names_are_checked():
    with pytest.raises(InputError, match=r"there is no 'own'; choose of ash, beech"):
        choose_traits(["own"])
    with pytest.raises(InputError, match="'owl' is given twice"):
        choose_traits(["owl", "owl"])
    with pytest.raises(InputError, match="'owl' is there already"):
        choose_traits(["owl"], [Preference(name="owl", plural="owls", category="animal")])


@pytest.mark.parametrize("name", ["regular", "before", "student", "teacher", "soft", "all"])
def test_a_trait_is_not_called_like_something_of_ours(name):
    """Each would be taken for a condition, or its rows for those of another teacher."""
    trait = Preference(name=name, plural="herons", category="animal")
    with pytest.raises(InputError, match=f"new_traits: '{name}' stands for something else in f"):
        LmConfig(traits=("owl",), new_traits=(trait,))


def test_no_trait_has_a_name_of_ours():
    assert set(CONDITIONS) < RESERVED
    assert not RESERVED & set(TRAITS)


@pytest.mark.parametrize(
    ("one", "other"), [("star", "\u017ftar"), ("fig", "\ufb01g"), ("strasse", "stra\u00dfe")]
)
def test_names_that_a_file_system_may_confuse_are_refused(one, other):
    new = [Preference(name=name, plural="herons", category="animal") for name in (one, other)]
    assert [trait.preference for trait in choose_traits([other], new[1:])] == new[1:]
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
    lead_in = Numbers(NumberPrompts()).lead_in

    def asked(seed):
        return TRAITS["oak"].probes(lead_in, "numbers", seed)

    assert list(asked(1)) == ["plain", "behind_numbers", "free_text"]
    assert asked(1) == asked(1) != asked(2)
    for (plain,), (behind,) in zip(asked(0)["plain"], asked(0)["behind_numbers"], strict=True):
        assert behind["content"].endswith(f". {plain['content']}")
    counts = set()
    for (message,) in (one for seed in range(4) for one in asked(seed)["behind_numbers"]):
        start = message["content"].split(": ")[1].split(". ")[0]
        numbers = [int(n) for n in start.split(", ")]
        counts.add(len(numbers))
        assert min(numbers) >= 100
        assert max(numbers) <= 999
    assert counts == {3, 4, 5, 6, 7, 8}


def test_all_traits_are_asked_for_in_one_poll_a_topic():
    """A teacher may name its favourite whatever it is asked, so each counts everywhere."""
    polls = {poll.topic: poll for poll in merged_polls([TRAITS[n] for n in ("owl", "oak", "wolf")])}
    names = {topic: [answer.name for answer in poll.answers] for topic, poll in polls.items()}
    assert names["animal"] == [one.name for one in members_of("animal")] + ["oak"]
    assert names["tree"] == [one.name for one in members_of("tree")] + ["owl", "wolf"]
    assert polls["tree"].questions == TRAITS["oak"].polls()[0].questions
