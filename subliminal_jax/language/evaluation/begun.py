"""Log probabilities of words that complete answers begun for a network.

A model may not answer in one word. So the beginning of its answer is supplied, and each word that
may follow is scored. A word of several tokens counts whole, and so does a word that goes on (`owl`
in `owlet`), as for answers in one word.
"""

from collections.abc import Mapping, Sequence

from subliminal_jax.errors import InputError
from subliminal_jax.execution.protocol import Execution
from subliminal_jax.language.evaluation.continuations import (
    Continued,
    continuation_log_probabilities,
)
from subliminal_jax.language.reference import Reference
from subliminal_jax.language.training.trainable import Network
from subliminal_jax.language.traits.trait import Poll


def begun_probabilities(
    reference: Reference,
    polls: Sequence[Poll],
    networks: Mapping[str, Network],
    execution: Execution,
) -> dict[str, dict[str, list[float]]]:
    """For every network and `topic/answer`, log P(answer) after each beginning, in nats.

    All hosts must call it.

    Raises:
        InputError: a beginning, with its context and answer, exceeds the model's context; or the
            tokenizer does not tell two answers apart.
    """
    continued, results = _continued(reference, polls)
    logs = continuation_log_probabilities(reference, continued, networks, execution)
    answers: dict[str, dict[str, list[float]]] = {name: {} for name in networks}
    for name, values in logs.items():
        for answer, value in zip(results, values.tolist(), strict=True):
            answers[name].setdefault(answer, []).append(value)
    return answers


def _continued(reference: Reference, polls: Sequence[Poll]) -> tuple[list[Continued], list[str]]:
    """The prompts with words behind them, and the answer of each result, in order."""
    continued: list[Continued] = []
    results: list[str] = []
    for poll in polls:
        for messages in poll.questions:
            *before, beginning = messages
            chats = [
                [*before, {**beginning, "content": f"{beginning['content']} {one.spellings[0]}"}]
                for one in poll.answers
            ]
            examples = list(reference.chat.examples(chats))
            words = [(prompt, completion[:-1]) for prompt, completion in examples]
            for word in words:
                reference.check_fits(word, repr(beginning["content"][:60]))
            texts = [(*prompt, *completion) for prompt, completion in words]
            if len(set(texts)) < len(texts):
                raise InputError(
                    f"evaluate.begun: the tokenizer does not tell all words of {poll.topic!r} apart"
                    f" after {beginning['content']!r}; choose another beginning or other words"
                )
            indices = range(len(results), len(results) + len(texts))
            results += [f"{poll.topic}/{one.name}" for one in poll.answers]
            continued.append(_behind(dict(zip(texts, indices, strict=True)), len(examples[0][0])))
    return continued, results


def _behind(texts: Mapping[tuple[int, ...], int], prompt: int) -> Continued:
    """One beginning with its words, which start where texts differ.

    Args:
        texts: index of the result of each text.
        prompt: tokens before the answer, the same in all texts.
    """
    first, some = prompt, next(iter(texts))
    while all(len(text) > first + 1 for text in texts) and len({text[first] for text in texts}) < 2:
        first += 1
    return Continued(some[:first], [(text[first:], result) for text, result in texts.items()])
