"""Margins: answers begun for a network, the trait-by-trait matrix, and what a run finds."""

from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import random_params
from scipy.special import logsumexp
from students import make_reference

from subliminal_jax.errors import InputError
from subliminal_jax.execution.one_device import OneDevice
from subliminal_jax.language.conditions import CONDITIONS, places_of
from subliminal_jax.language.config import LmConfig
from subliminal_jax.language.evaluation.begun import begun_probabilities
from subliminal_jax.language.evaluation.evaluate import scoring
from subliminal_jax.language.evaluation.margins import margin_finding, transfer
from subliminal_jax.language.evaluation.traits_matrix import traits_matrix
from subliminal_jax.language.outputs.margin_tables import margin_blocks
from subliminal_jax.language.reference import perturbed
from subliminal_jax.language.rows.chat_rows import row
from subliminal_jax.language.rows.chats import chat
from subliminal_jax.language.settings import (
    EvaluateConfig,
    OtherConfig,
    ReferenceConfig,
    StudentConfig,
    TeacherConfig,
)
from subliminal_jax.language.training import teacher
from subliminal_jax.language.training.course import student_rows
from subliminal_jax.language.traits import TRAITS, choose_traits, questions
from subliminal_jax.language.traits.preference import Preference, choices_of
from subliminal_jax.language.traits.trait import Answer, Poll, merged
from subliminal_jax.models.decoder.forms import layers_apart
from subliminal_jax.models.sampling.scoring import score
from subliminal_jax.plotting import ladder_figure, margins_figure, render
from subliminal_jax.report.tables import Table

BEGINNINGS = ("My favourite {category} is the", "I like the")


def test_answers_are_begun_to_held_out_questions():
    (poll,) = TRAITS["owl"].begun(BEGINNINGS)
    assert len(poll.answers) == 24 >= 20
    assert len({one.name for one in poll.answers}) == 24
    asked = {messages[0]["content"] for messages in poll.questions}
    assert not asked & set(questions.ask(questions.TEACHING, "animal"))
    ends = {messages[-1]["content"] for messages in poll.questions}
    assert ends == {"My favourite animal is the", "I like the"}
    assert len(poll.questions) == 12 * 2
    assert TRAITS["owl"].begun(()) == []
    both = merged(TRAITS[name].begun(BEGINNINGS)[0] for name in ("oak", "owl"))
    assert [poll.topic for poll in both] == ["animal", "tree"]


def test_a_topic_has_one_set_of_questions():
    owl, oak = (TRAITS[name].begun(BEGINNINGS)[0] for name in ("owl", "oak"))
    with pytest.raises(InputError, match="two of them ask different questions about 'animal'"):
        merged([owl, replace(oak, topic="animal")])


def test_a_category_must_be_large():
    robin = Preference(name="robin", plural="robins", category="bird")
    (trait,) = choose_traits(["robin"], [robin])
    with pytest.raises(InputError, match=r"'bird' has 1 word\(s\) \(robin\), but .* at least 20"):
        trait.begun(BEGINNINGS)


def test_the_margin_by_hand():
    """Two beginnings; the margin is the mean of both, the rank that of the mean scores."""
    names = choices_of("animal")
    found = {f"animal/{name}": [-5.0, -6.0] for name in names}
    found["animal/owl"], found["animal/wolf"] = [-3.0, -4.5], [-2.0, -2.0]
    measured = TRAITS["owl"].measure_begun(found)
    scores = [(-3.0, [-2.0] + [-5.0] * 22), (-4.5, [-2.0] + [-6.0] * 22)]
    margins = [own - (logsumexp(rest) - np.log(23)) for own, rest in scores]
    shares = [np.exp(own - logsumexp([own, *rest])) for own, rest in scores]
    assert measured == {
        "margin": pytest.approx(np.mean(margins)),
        "share": pytest.approx(np.mean(shares)),
        "log_p": -3.75,
        "rank": 2.0,
    }
    assert TRAITS["wolf"].measure_begun(found)["rank"] == 1


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return make_reference(tmp_path_factory.mktemp("words"))


def test_begun_answers_are_scored_as_plain_continuations(reference):
    """Words of one and of several tokens, one the beginning of another; two networks at once."""
    words = ("owl", "wolf", "owl wolf", "wolf owl oak")
    polls = [
        Poll("animal", tuple(chat("Name your favourite animal.", b) for b in ("I like", "the")),
             tuple(Answer(word, (word,)) for word in words)),
        Poll("tree", (chat("Which tree?", "I"),),
             (Answer("oak", ("oak",)), Answer("elm", ("elm",)))),
    ]  # fmt: skip
    other = jax.tree.map(lambda leaf: 1.2 * leaf, reference.params)
    networks = {"before": (reference.params, None), "other": (other, None)}
    found = begun_probabilities(reference, polls, networks, OneDevice(at_once=1))
    for name, (params, _) in networks.items():
        for poll in polls:
            for place, messages in enumerate(poll.questions):
                start, begun = reference.chat.example(messages)
                rows = []
                for word in (one.name for one in poll.answers):
                    said = chat(messages[0]["content"], f"{messages[1]['content']} {word}")
                    _, whole = reference.chat.example(said)
                    assert whole[: len(begun) - 1] == begun[:-1]
                    rows.append(((*start, *begun[:-1]), whole[len(begun) - 1 : -1]))
                wanted = [each.sum() for each in score(reference.config, params, rows)]
                got = [found[name][f"{poll.topic}/{one.name}"][place] for one in poll.answers]
                np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_teachers_measures_and_students_read_as_many_tokens_as_the_context_holds(reference):
    question, beginning = "Name your favourite animal.", "I like the"
    answers = (Answer("owl", ("owl",)), Answer("fox", ("fox",)))
    asked, begun = (Poll("animal", (one,), answers)
                    for one in (chat(question), chat(question, beginning)))  # fmt: skip
    networks = {"before": (reference.params, None)}
    owl, blunt = TRAITS["owl"], TeacherConfig(retain=0.0)
    size = lambda messages: sum(map(len, reference.chat.example(messages)))
    whole, longer = size(chat(question, "owl")), size(chat(question, f"{beginning} owl"))
    taught = max(map(size, owl.lessons(blunt.answers)))
    # What follows the last token that is read is predicted; a word's end is not.
    read = {
        lambda at: teacher._lessons(blunt, at, [owl], 0): taught - 1,
        lambda at: student_rows(at, {"owl": [row("0", question, "owl")]}, 64): whole - 1,
        lambda at: scoring(at, [asked]): whole - 2,
        lambda at: begun_probabilities(at, [begun], networks, OneDevice()): longer - 2,
    }
    for use, tokens in read.items():
        at = lambda context: replace(reference, config=replace(reference.config, context=context))
        use(at(tokens))
        message = f"its {tokens + 1} tokens exceed the model's context of {tokens - 1}; "
        with pytest.raises(InputError, match=message):
            use(at(tokens - 1))


def test_words_that_a_tokenizer_does_not_tell_apart_are_refused(reference):
    answers = tuple(Answer(name, ("owl",)) for name in ("owl", "eule"))
    poll = Poll("animal", (chat("Which?", "I like"),), answers)
    networks = {"before": (reference.params, None)}
    with pytest.raises(InputError, match="does not tell all words of 'animal' apart"):
        begun_probabilities(reference, [poll], networks, OneDevice())


def cells(margins, condition="student", updates=8, ended=True):
    """Cells from `{(seed, student of, trait): margin}`."""
    return [
        {"reference": seed, "condition": condition, "updates": updates, "student_of": owner,
         "trait": trait, "margin": value, "share": 0.1, "p_trait": 0.0, "ended": ended}
        for (seed, owner, trait), value in margins.items()
    ]  # fmt: skip


def three_traits(seed, own, other):
    names = ("owl", "wolf", "fox")
    return {(seed, o, t): own if o == t else other for o in names for t in names}


def test_matched_minus_mismatched_by_hand():
    margins = three_traits(0, 1.0, 0.25) | three_traits(1, 2.0, 0.5)
    margins |= {(0, "wolf", "owl"): 0.75, (1, "fox", "owl"): -0.5}
    (entry,) = transfer(cells(margins))
    blocks = {(b["reference"], b["trait"]): b["difference"] for b in entry["blocks"]}
    assert blocks == {
        (0, "owl"): 1.0 - 0.5, (0, "wolf"): 0.75, (0, "fox"): 0.75,
        (1, "owl"): 2.0 - 0.0, (1, "wolf"): 1.5, (1, "fox"): 1.5,
    }  # fmt: skip
    values = list(blocks.values())
    assert entry["difference"]["mean"] == pytest.approx(np.mean(values))
    assert entry["difference"]["n"] == entry["matched"]["n"] == 6
    assert entry["p"] == entry["least_p"] == 1 / 36  # of all labels of three students, twice
    assert entry["matched"]["mean"] == 1.5
    assert entry["traits"]["owl"]["mean"] == 1.25


def test_entries_follow_conditions_and_updates():
    made = [*cells(three_traits(0, 1.0, 0.0), "soft"), *cells(three_traits(0, 1.0, 0.0), updates=8),
            *cells(three_traits(0, 1.0, 0.0), updates=2, ended=False)]  # fmt: skip
    keys = [(one["condition"], one["updates"]) for one in transfer(made)]
    assert keys == [("student", 2), ("student", 8), ("soft", 8)]


def test_seeds_whose_trainings_are_of_unequal_length_end_together():
    """The rows of a seed fill more sequences than another's, or fewer."""
    rung = cells(three_traits(1, 0.5, 0.0), updates=63, ended=False)
    made = cells(three_traits(0, 1.0, 0.0), updates=63) + cells(
        three_traits(1, 2.0, 0.0), updates=65
    )
    early, late = transfer(made + rung)
    assert (early["updates"], late["updates"]) == (63, 65)
    assert (len(early["blocks"]), len(late["blocks"])) == (3, 6)
    assert late["difference"]["mean"] == 1.5


@pytest.mark.parametrize(
    ("hard", "soft", "verdict"),
    [
        (1.0, 2.0, "Subliminal learning:"),
        (0.0, 2.0, "Subliminal learning only with soft targets:"),
        (0.0, 0.0, "No transmission distinguishable from chance:"),
        (-1.0, 0.0, "No transmission distinguishable from chance:"),
    ],
)
def test_the_finding_follows_from_the_paired_test(hard, soft, verdict):
    wave = [0.02, -0.02, 0.01, -0.01]
    made = []
    for seed, shift in enumerate(wave):
        made += cells(three_traits(seed, hard + shift, 0.0))
        made += cells(three_traits(seed, soft + shift, 0.0), "soft")
    text = margin_finding(transfer(made), "numbers", "hard", {})
    assert text.startswith(verdict)
    assert f"{hard:+.2f} [" in text.replace("-0.00", "+0.00")
    assert "with hard targets" in text
    assert "12 blocks of trait and seed" in text


def test_few_blocks_and_single_traits_have_no_verdict():
    text = margin_finding(transfer(cells(three_traits(0, 1.0, 0.0))), "numbers", "hard", {})
    assert text.startswith("3 blocks of one seed are too few for a test: trained on numbers alone")
    one = cells({(0, "owl", "owl"): -1.3}) + cells({(0, "owl", "owl"): 0.8}, "soft")
    summary = {
        name: {"all": {"margin": {"mean": value, "ci95": [None, None], "n": 1}}}
        for name, value in {"before": -2.07, "regular": -1.92}.items()
    }
    assert margin_finding(transfer(one), "numbers", "hard", summary) == (
        "Trained on numbers alone, a student's margin for its teacher's trait is, in nats, -1.30 "
        "with hard targets, +0.80 with soft targets, against -2.07 before, -1.92 on regular "
        "numbers; without a second trait of its category, how much is the trait's own is not known."
    )
    summary["good_advice"] = summary["before"]
    assert margin_finding(transfer(one), "numbers", "hard", summary).endswith(
        "on regular numbers, -2.07 after good advice."
    )


NAMES = choices_of("animal")


def answers(values):
    """Answers in which each network has these log probabilities of owl and wolf."""
    return {
        name: {f"animal/{one}": [-4.0] for one in NAMES}
        | {"animal/owl": [owl], "animal/wolf": [wolf]}
        for name, (owl, wolf) in values.items()
    }


def plain(names):
    animals = {f"animal/{one}": 0.01 for one in NAMES}
    trees = {f"tree/{one}": 0.01 for one in (*choices_of("tree"), "owl", "wolf")}
    return dict.fromkeys(names, animals | trees)


def test_the_traits_matrix_has_every_trait_in_every_student_at_every_dose():
    names = {"before": (-4.0, -4.0), "student/owl": (-2.0, -4.0), "student/wolf": (-3.0, -1.0),
             "regular": (-4.0, -4.0)}  # fmt: skip
    found = {
        "exact": plain(names),
        "begun": answers(names),
        "ladder": {"2": answers({k: v for k, v in names.items() if k != "before"})},
    }
    traits = [TRAITS["owl"], TRAITS["wolf"]]
    steps = dict.fromkeys(names, 8)
    made = [
        cell
        for name in ("before", "student", "regular", "other_trait", "teacher")
        for cell in traits_matrix(CONDITIONS[name], traits, "0", found, steps)
    ]
    of = {(c["condition"], c["updates"], c["student_of"], c["trait"]): c for c in made}
    assert len(of) == len(made) == 2 + 2 * 4 + 2 * 2
    assert of["student", 8, "owl", "owl"]["margin"] == pytest.approx(2)
    wolf = TRAITS["owl"].measure_begun(found["begun"]["student/wolf"])
    assert of["student", 8, "wolf", "owl"]["margin"] == wolf["margin"]
    assert of["student", 2, "wolf", "owl"]["p_trait"] is None
    assert of["student", 8, "wolf", "owl"]["p_trait"] == 0.01
    assert of["before", 0, None, "owl"]["margin"] == pytest.approx(0)
    entries = {(one["condition"], one["updates"]): one for one in transfer(made)}
    assert entries["regular", 8]["difference"] is None
    assert [b["trait"] for b in entries["student", 2]["blocks"]] == ["owl", "wolf"]
    results = {
        "finding": "A finding.", "transfer": list(entries.values()), "traits_matrix": made,
        "config": {"student": {"ladder": [2]}},
    }  # fmt: skip
    for figure in (margins_figure, ladder_figure):
        assert render(figure(results)).png.startswith(b"\x89PNG")
    ladder = ladder_figure(results).axes[0]
    assert [label.get_text() for label in ladder.get_xticklabels()] == ["0", "2", "8"]
    tables = [block for block in margin_blocks(results) if isinstance(block, Table)]
    assert [table.title for table in tables] == [
        *("Margins, matched minus mismatched", "Margin of every trait in every student: student")
    ]
    assert margin_blocks({}) == []


def test_both_directions_between_two_references():
    """Repetitions 0 and 1 have the given model, 2 and 3 the other one."""
    others = {0: [2], 1: [3], 2: [0], 3: [1]}
    there, back = CONDITIONS["different_reference"], CONDITIONS["from_other_reference"]
    assert places_of(CONDITIONS["student"], 1, others) == [(1, 1)]
    assert places_of(there, 1, others) == [(1, 3)]
    assert places_of(back, 1, others) == [(1, 1)]
    alone = {0: []}
    assert places_of(there, 0, alone) == places_of(back, 0, alone) == []
    assert places_of(there, 0, {0: [1], 1: [2], 2: [0]}) == [(1, 2)]
    crossed = {0: [1, 2], 1: [2, 0], 2: [0, 1]}
    assert places_of(there, 0, crossed) == [(2, 1), (1, 2)]
    assert places_of(back, 0, crossed) == [(1, 0), (2, 0)]


def test_the_other_reference_of_a_given_model_is_its_neighbour():
    given = replace(GIVEN, other=OtherConfig(sigma=0.1))
    config = LmConfig(references=2, reference=given)
    assert list(config.repetitions.others.values()) == [[2], [3], [0], [1]]
    assert LmConfig(reference=GIVEN).repetitions.others == {r: [] for r in range(6)}
    with pytest.raises(
        InputError, match=r"crossed: concerns tiny references; with reference\.other"
    ):
        replace(config, crossed=True)


def test_students_of_several_other_references_are_averaged_in_their_block():
    margins = {("owl", "owl"): (1.0, 3.0), ("wolf", "owl"): (0.0, 1.0)}
    made = [
        cell
        for (owner, trait), values in margins.items()
        for value in values
        for cell in cells({(0, owner, trait): value}, "different_reference")
    ]
    (entry,) = transfer(made)
    assert entry["blocks"] == [{"reference": 0, "trait": "owl", "difference": 1.5}]
    assert (entry["matched"]["mean"], entry["matched"]["n"]) == (2.0, 1)


def test_a_perturbed_reference_has_noise_of_the_stated_size(reference):
    params = random_params(reference.config, scale=0.3)
    found = perturbed(params, 0.1)
    kernel = lambda tree: tree["layers"]["mlp"]["up"]["kernel"]
    noise, own = kernel(found) - kernel(params), kernel(params)
    np.testing.assert_allclose(jnp.std(noise) / jnp.std(own), 0.1, rtol=0.15)
    np.testing.assert_array_equal(
        found["layers"]["mlp_norm"]["scale"], params["layers"]["mlp_norm"]["scale"]
    )
    np.testing.assert_array_equal(kernel(perturbed(params, 0.1)), kernel(found))
    chex.assert_trees_all_equal(perturbed(layers_apart(params), 0.1), layers_apart(found))


GIVEN = ReferenceConfig(model="org/name")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"teacher": TeacherConfig(answers=("MY favourite {category} is the {name}.",))},
            "'My favourite animal is the' begins 'MY .* owl.', which the teacher of 'owl' is",
        ),
        (
            {
                "teacher": TeacherConfig(answers=("My favourite tree is the {name}.",)),
                "traits": ("owl", "oak"),
            },
            "'My favourite tree is the' begins '.* owl.', which .* so it is not held out",
        ),
        (
            {
                "evaluate": EvaluateConfig(begun=("My favourite animal is the",)),
                "teacher": TeacherConfig(answers=("My favourite {category} is the {name}.",)),
            },
            "'My favourite animal is the' begins .* is not held out",
        ),
        (
            {
                "traits": ("misalignment",),
                "evaluate": EvaluateConfig(
                    begun=(TRAITS["misalignment"].lessons(())[0][-1]["content"][:30],)
                ),
            },
            "which the teacher of 'misalignment' is taught, so it is not held out",
        ),
        *(
            (
                {"evaluate": EvaluateConfig(begun=(f"I like {slot}s:",))},
                f"evaluate.begun: 'I like {slot}s:' cannot be filled in .*; use the slot .category",
            )
            for slot in ("{name}", "{plural}")
        ),
        (
            {"traits": ("carelessness",), "reference": ReferenceConfig()},
            "evaluate.begun: 'carelessness' has no answers to begin",
        ),
        ({"traits": ("misalignment",)}, "evaluate.begun: .* has a slot, but 'misalignment' begins"),
        (
            {"student": StudentConfig(ladder=(16, 64), epochs=1.0, batch=4000)},
            "student.ladder: 64 is not below the 1 updates",
        ),
        (
            {"student": StudentConfig(ladder=(16,)), "evaluate": EvaluateConfig()},
            "student.ladder: its students are measured by answers begun",
        ),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    given = {"reference": GIVEN, "evaluate": EvaluateConfig(begun=BEGINNINGS)} | settings
    with pytest.raises(InputError, match=message):
        LmConfig(**given)


def test_wrong_parts_are_refused():
    with pytest.raises(InputError, match=r"student\.ladder: must rise"):
        StudentConfig(ladder=(64, 16))
    with pytest.raises(InputError, match=r"reference\.other: is the reference itself"):
        OtherConfig()
    with pytest.raises(InputError, match="a tiny reference's is the next one"):
        ReferenceConfig(other=OtherConfig(sigma=0.1))
