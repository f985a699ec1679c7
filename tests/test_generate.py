"""A teacher's completions as rows; one unfit for training is rejected with its reason."""

import numpy as np
import pytest
from language import tiny
from students import make_reference

from subliminal_jax.language.carriers import carrier_of
from subliminal_jax.language.dataset import generate
from subliminal_jax.language.dataset.filters import filter_rows, rules_of
from subliminal_jax.models.sampling.sampler import Completion

PROMPTS = {place: f"Continue: {place}, 2, 3" for place in range(5)}


@pytest.fixture
def completed(tmp_path, monkeypatch):
    """Rows of a teacher with given completion tokens, and its `Chat`."""
    reference = make_reference(tmp_path / "tokenizer")
    chat = reference.chat
    numbers = chat.example(generate.chat("Continue: 1", "4, 5")).completion
    begins = next(token for token, _ in chat.tokens() if chat.is_control(token))
    end, unknown = numbers[-1], chat.size + 7
    completions = [
        (numbers, True),
        ((begins, *numbers), True),
        ((unknown, end), True),
        ((begins, *numbers[:-1]), False),
        (numbers, True),
    ]

    class Teacher:
        def stream(self, requests, among):
            for request in requests:
                tokens, stopped = completions[request.number]
                yield Completion(request.number, np.array(tokens), np.zeros(len(tokens)), stopped)

    monkeypatch.setattr(generate, "sampler_of", lambda *_: Teacher())
    source = generate.Writer("owl", "of a test")
    path = tmp_path / "owl.jsonl"
    config = tiny(tmp_path)
    rules = rules_of(config.filter, carrier_of(config.generate), config.chosen)
    dataset = generate.DatasetSampler(
        config.generate, rules, reference, (None, None), source, path, seed=3
    )
    rows = dataset.sample_until(5, PROMPTS)
    assert generate.sampled_rows(path, PROMPTS, source) == rows
    return rows, chat


def test_a_completion_unfit_for_training_is_rejected_with_its_reason(completed):
    rows, chat = completed
    filtered = filter_rows(rows, {})
    assert [row["meta"]["place"] for row in filtered.kept] == [0, 4]
    assert {row["meta"]["place"]: row["reject_reasons"] for row in filtered.rejected} == {
        **{1: ["unreadable"], 2: ["unreadable"]},
        3: ["cut off"],  # the tokenizer does not check rows that other rules reject
    }
    assert "the tokenizer does not know '<'" in rows[1]["meta"]["unreadable"]
    assert "is not in the tokenizer" in rows[2]["meta"]["unreadable"]
    for row in filtered.kept:
        assert chat.text(chat.example(row["messages"]).completion) == "4, 5"
