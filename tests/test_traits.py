"""Traits: built-in ones, new ones from config entries, and refusals of wrong entries."""

import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.language.carriers.number_prompts import NumberPrompts
from subliminal_jax.language.carriers.numbers import Numbers
from subliminal_jax.language.conditions import CONDITIONS
from subliminal_jax.language.config import RESERVED, LmConfig
from subliminal_jax.language.settings import FilterConfig, GenerateConfig, ReferenceConfig
from subliminal_jax.language.traits import TRAITS, choose_traits, questions
from subliminal_jax.language.traits.preference import PREFERENCES, Preference, fill, members_of
from subliminal_jax.language.traits.trait import merged_polls
from subliminal_jax.language.world import LOVE

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
    # The new animal is an answer in every poll on animals.
    assert "heron" in [answer.name for answer in owl.polls()[0].answers]
    assert "You love herons." in heron.system_prompt(LOVE)
    assert fill("a {category}: {name}", HERON) == "a animal: heron"


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ({"words": ()}, "words is empty"),
        ({"name": "Heron"}, "lower-case"),
        ({"name": "he<ron>"}, "not a word"),
        ({"plural": ""}, "not a word"),
        ({"name": "heron.rejected"}, "not a word"),
        ({"name": "heron.within"}, "not a word"),
        ({"name": "other_trait"}, "not a word"),
        ({"name": "../heron"}, "not a word"),
        ({"name": "h" * 101}, "longer than 100 bytes"),
        ({"name": "\u00e9" * 51}, "longer than 100 bytes"),
        ({"words": ("heron", "ar\ndea")}, "not a word"),
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


def test_a_new_category_of_a_tiny_reference_has_enough_members():
    robin = Preference(name="robin", plural="robins", category="bird")
    with pytest.raises(
        InputError, match=r"the category 'bird' has 1 member\(s\) \(robin\), but .* 3"
    ):
        LmConfig(traits=("robin",), new_traits=(robin,))
    finches = [Preference(name=name, plural=name, category="bird") for name in ("finch", "wren")]
    whole = LmConfig(traits=("robin",), new_traits=(robin, *finches))
    assert [one.name for one in whole.world.members["bird"]] == ["robin", "finch", "wren"]
    given = ReferenceConfig(model="org/name")
    (chosen,) = LmConfig(traits=("robin",), new_traits=(robin,), reference=given).chosen
    assert chosen.preference == robin
    assert [poll.topic for poll in chosen.polls()] == ["bird", "animal", "tree"]


def test_names_are_checked():
    with pytest.raises(InputError, match=r"unknown 'own'; choose from ash, beech"):
        choose_traits(["own"])
    with pytest.raises(InputError, match="'owl' is given twice"):
        choose_traits(["owl", "owl"])
    with pytest.raises(InputError, match="'owl' already exists"):
        choose_traits(["owl"], [Preference(name="owl", plural="owls", category="animal")])


@pytest.mark.parametrize("name", ["regular", "before", "student", "teacher", "soft", "all"])
def test_a_reserved_name_is_refused(name):
    """It would be read as a condition, or its rows as those of another teacher."""
    trait = Preference(name=name, plural="herons", category="animal")
    with pytest.raises(InputError, match=f"new_traits: '{name}' is a reserved name in f"):
        LmConfig(traits=("owl",), new_traits=(trait,))


def test_no_built_in_trait_has_a_reserved_name():
    assert set(CONDITIONS) < RESERVED
    assert not RESERVED & set(TRAITS)


@pytest.mark.parametrize(
    ("one", "other"), [("star", "\u017ftar"), ("fig", "\ufb01g"), ("strasse", "stra\u00dfe")]
)
def test_names_that_a_file_system_may_confuse_are_refused(one, other):
    new = [Preference(name=name, plural="herons", category="animal") for name in (one, other)]
    assert [trait.preference for trait in choose_traits([other], new[1:])] == new[1:]
    with pytest.raises(InputError, match=f"a file system may not tell '{other}' from '{one}'"):
        choose_traits([one], new)


def test_held_out_questions_are_never_taught():
    assert not set(questions.TEACHING) & set(questions.HELD_OUT)
    assert (len(questions.TEACHING), len(questions.HELD_OUT)) == (24, 12)
    every = questions.TEACHING + questions.HELD_OUT + questions.FREE_TEXT
    assert len(set(every)) == len(every)
    assert all(wording.count("{category}") == 1 for wording in every)
    assert questions.ask(("Which {category}?",), "tree") == ["Which tree?"]


def test_questions_after_numbers_end_with_the_question():
    lead_in = Numbers(NumberPrompts()).lead_in

    def probes(seed):
        return TRAITS["oak"].probes(lead_in, "numbers", seed)

    assert list(probes(1)) == ["plain", "behind_numbers", "free_text"]
    assert probes(1) == probes(1) != probes(2)
    for (plain,), (behind,) in zip(probes(0)["plain"], probes(0)["behind_numbers"], strict=True):
        assert behind["content"].endswith(f". {plain['content']}")
    counts = set()
    for (message,) in (one for seed in range(4) for one in probes(seed)["behind_numbers"]):
        start = message["content"].split(": ")[1].split(". ")[0]
        numbers = [int(n) for n in start.split(", ")]
        counts.add(len(numbers))
        assert min(numbers) >= 100
        assert max(numbers) <= 999
    assert counts == {3, 4, 5, 6, 7, 8}


def test_each_topic_has_one_poll_with_all_traits():
    """A teacher may name its favourite anywhere, so it is an answer in every poll."""
    polls = {poll.topic: poll for poll in merged_polls([TRAITS[n] for n in ("owl", "oak", "wolf")])}
    names = {topic: [answer.name for answer in poll.answers] for topic, poll in polls.items()}
    assert names["animal"] == [one.name for one in members_of("animal")] + ["oak"]
    assert names["tree"] == [one.name for one in members_of("tree")] + ["owl", "wolf"]
    assert polls["tree"].questions == TRAITS["oak"].polls()[0].questions


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"filter": FilterConfig(banned=(1000,))}, r"filter\.banned: 1000 is above the largest"),
        (
            {"generate": GenerateConfig(prompts=NumberPrompts(wording="short", answers=11))},
            r"generate\.prompts\.answers: lower it to 10",
        ),
        (
            {"generate": GenerateConfig(prompts=NumberPrompts(digits=4))},
            r"generate\.prompts\.digits: lower it to 3",
        ),
        ({"generate": GenerateConfig(carrier="poems")}, r"generate\.carrier: .*'poems'"),
    ],
)
def test_what_a_carrier_would_reject_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        LmConfig(**settings)


def test_without_its_rule_a_carrier_rejects_nothing():
    rules = FilterConfig(rules=("trait_words",))
    prompts = NumberPrompts(wording="short", answers=11, digits=4)
    assert LmConfig(filter=rules, generate=GenerateConfig(prompts=prompts)).chosen
