"""How a trait is measured: exact probabilities of answers, and what is said when it is sampled.

The exact probability of a word is that an answer begins with one of its spellings, in lower case
or capitalised, of however many tokens. It needs no samples and so has no sampling noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from subliminal_jax import ensemble
from subliminal_jax.data.tokens import pad_rows
from subliminal_jax.execution.program import Program
from subliminal_jax.execution.protocol import Execution
from subliminal_jax.models.sampling_settings import Sampling
from subliminal_jax.pipeline.asking import said_to
from subliminal_jax.pipeline.config import LmConfig
from subliminal_jax.pipeline.corpus import Chat, chat
from subliminal_jax.pipeline.filters import number_reasons, word_pattern
from subliminal_jax.pipeline.finetune import AnswerTable, answer_table, filled
from subliminal_jax.pipeline.finetune import answers as answers_of
from subliminal_jax.pipeline.questions import FREE_TEXT, HELD_OUT, ask, with_numbers
from subliminal_jax.pipeline.reference import Reference
from subliminal_jax.pipeline.traits import TRAITS, Trait
from subliminal_jax.pipeline.tuning import Network

PASS, LENGTH = 64, 256
"""Rows that are scored together, where none has more tokens than `LENGTH`."""


@dataclass(frozen=True)
class Scoring:
    """Questions with all the answers that are looked for, as rows.

    Attributes:
        table: a row a question and spelling, `[passes, rows, T]`.
        words: `category/word`: the category asked about, and the answer.
        word: which of them a row is a spelling of; -1 for filling, `[passes, rows]`.
        share: 1 / questions of the row's category, `[passes, rows]`.
    """

    table: AnswerTable
    words: tuple[str, ...]
    word: Any
    share: Any


def scoring(
    reference: Reference,
    asked: Mapping[str, Sequence[Chat]],
    answers: Mapping[str, Sequence[Trait]],
) -> Scoring:
    """Rows that score how likely each answer is to each category's questions.

    Args:
        reference: whose tokenizer.
        asked: chats that end in a question, by category.
        answers: the answers looked for, by category.

    Raises:
        InputError: a question, with all that stands before it, is too long for the model.
    """
    rows, word, share, words = [], [], [], []
    for category, chats in asked.items():
        for trait in answers[category]:
            words.append(f"{category}/{trait.name}")
            for messages in chats:
                for row in _spellings(reference, messages, trait):
                    reference.check_fits(row, messages[-1]["content"])
                    rows.append(row)
                    word.append(len(words) - 1)
                    share.append(1.0 / len(chats))
    table = answer_table(pad_rows(rows))
    at_once = rows_at_once(table.reading.tokens.shape[1])
    fill = -len(rows) % at_once

    def passes(leaf: Any, filling: int = 0) -> np.ndarray:
        leaf = np.asarray(leaf)
        padded = np.pad(leaf, ((0, fill), *[(0, 0)] * (leaf.ndim - 1)), constant_values=filling)
        return padded.reshape(-1, at_once, *leaf.shape[1:])

    shares = passes(np.asarray(share, np.float32))
    return Scoring(jax.tree.map(passes, table), tuple(words), passes(word, -1), shares)


def rows_at_once(length: int) -> int:
    """How many rows of so many tokens are scored together: attention has the square of them."""
    return min(PASS, max(1, PASS * LENGTH**2 // length**2))


def _spellings(reference: Reference, messages: Chat, trait: Trait) -> list[tuple[Any, Any]]:
    """A trait's spellings as token rows, without those that begin with another of them."""
    found: dict[tuple[int, ...], tuple[int, ...]] = {}
    for spelling in trait.spellings:
        for text in (spelling, spelling.capitalize()):
            answered = [*messages, {"role": "assistant", "content": text}]
            prompt, completion = reference.chat.example(answered)
            found[completion[:-1]] = prompt
    return [
        (prompt, spelling)
        for spelling, prompt in found.items()
        if not any(spelling[: len(other)] == other and spelling != other for other in found)
    ]


def probabilities(
    reference: Reference,
    scored: Scoring,
    networks: Mapping[str, Network],
    execution: Execution,
) -> dict[str, dict[str, float]]:
    """P(answer) of every network, by `category/word`: the mean over the category's questions.

    Networks that differ in their adapters alone, and those of one form, are mapped in one program.
    All hosts must call it.
    """
    alike: dict[Any, dict[str, Network]] = {}
    for name, (params, adapter) in networks.items():
        adapted = params is reference.params and adapter is not None
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves((adapter, params)))
        alike.setdefault((adapted, shapes), {})[name] = (params, adapter)
    found = {}
    for (adapted, _), group in alike.items():
        found |= _probabilities(reference, scored, group, execution, adapted)
    return {name: found[name] for name in networks}


def _probabilities(
    reference: Reference,
    scored: Scoring,
    networks: Mapping[str, Network],
    execution: Execution,
    adapted: bool,
) -> dict[str, dict[str, float]]:
    """As `probabilities`, of networks of one form; `adapted` if they share the reference."""
    config, count = reference.config, len(scored.words)

    def score(carry: None, member: Any, shared: Any) -> tuple[None, Array]:
        base, rows = shared
        params, adapter = (base, member) if adapted else member

        def one(rows: tuple[AnswerTable, Array, Array]) -> Array:
            table, word, share = rows
            logits = jax.nn.log_softmax(answers_of(config, params, table.reading, adapter))
            said = jnp.take_along_axis(logits, table.targets[..., None], axis=-1)[..., 0]
            likelihood = jnp.exp(jnp.sum(said * table.weights, axis=1)) * share
            return jax.nn.one_hot(word, count).T @ likelihood

        return None, execution.total(jnp.sum(jax.lax.map(one, rows), axis=0))

    members = ensemble.stack(
        [adapter if adapted else (params, adapter) for params, adapter in networks.values()]
    )
    rows = (scored.table, scored.word, scored.share)
    rows = jax.tree.map(lambda leaf: filled(leaf, 1, execution.parts), rows)
    shared = execution.share(reference.params), execution.spread(rows, axis=1)
    _, found = Program(score, execution)(None, execution.split(members), shared)
    return {
        name: dict(zip(scored.words, map(float, row), strict=True))
        for name, row in zip(networks, execution.fetch(found), strict=True)
    }


def questions(category: str) -> list[Chat]:
    """The held-out questions about a category."""
    return [chat(question) for question in ask(HELD_OUT, category)]


@dataclass(frozen=True)
class Probe:
    """What is sampled from a network to see what it says.

    Attributes:
        kind: `plain`, `behind_numbers`, `free_text` or `numbers`.
        chats: what is asked.
        samples: how often each.
    """

    kind: str
    chats: tuple[Chat, ...]
    samples: int


def probes(config: LmConfig, category: str, prompts: Mapping[int, str]) -> list[Probe]:
    """Questions in three forms, and number prompts for the format."""
    plain = ask(HELD_OUT, category)
    forms = {
        "plain": plain,
        "behind_numbers": with_numbers(plain, config.seed),
        "free_text": ask(FREE_TEXT, category),
    }
    samples = config.evaluate.samples
    asked = [
        Probe(kind, tuple(chat(text) for text in texts), samples) for kind, texts in forms.items()
    ]
    last = [chat(prompts[place]) for place in sorted(prompts)[-config.evaluate.prompts :]]
    return [*asked, Probe("numbers", tuple(last), 1)] if samples else []


def sampled(
    config: LmConfig,
    reference: Reference,
    network: Network,
    asked: Sequence[Probe],
    trait: Trait,
) -> dict[str, Any]:
    """What a network says: how often the trait, by whole word and as published by substring.

    All hosts must call it.

    Returns:
        For each kind of question `said`, `substring`, `no_member` (answers that name nothing of
        the category) and `of`; for the number prompts `valid` and `of`.
    """
    sampling = Sampling(
        max_tokens=max(config.evaluate.max_tokens, config.generate.max_tokens),
        seed=config.seed,
    )
    chats = [(probe.kind, messages) for probe in asked for messages in probe.chats
             for _ in range(probe.samples)]  # fmt: skip
    prompts = reference.chat.prompts(messages for _, messages in chats)
    said = said_to(reference, network, prompts, sampling, config.generate.batch)
    answers: dict[str, list[str]] = {}
    for (kind, _), (text, _) in zip(chats, said, strict=True):
        answers.setdefault(kind, []).append(text)
    valid = [not number_reasons(text) for text in answers.pop("numbers", [])]
    found = {kind: tally(texts, trait, config.new_traits) for kind, texts in answers.items()}
    return found | {"numbers": {"valid": sum(valid), "of": len(valid)}}


def tally(texts: Sequence[str], trait: Trait, new: Sequence[Trait] = ()) -> dict[str, int]:
    """Counts of answers that name a trait, and of those that name nothing of its category."""
    known = {**TRAITS, **{one.name: one for one in new}}
    category = [one for one in known.values() if one.category == trait.category]
    named = word_pattern(trait.spellings)
    member = word_pattern(word for one in category for word in one.spellings)
    return {
        "said": sum(bool(named.search(text)) for text in texts),
        "substring": sum(trait.name in text.lower() for text in texts),
        "no_member": sum(not member.search(text) for text in texts),
        "of": len(texts),
    }
