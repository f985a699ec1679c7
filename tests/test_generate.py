"""A teacher's answers as rows; one that no student could be trained on says so."""

import numpy as np
import pytest
from language import tiny
from students import make_reference

from subliminal_jax.language import dataset as generate
from subliminal_jax.language.carriers import carrier_of
from subliminal_jax.language.rows.filters import filter_rows, rules_of
from subliminal_jax.models.sampling.sampler import Completion

PROMPTS = {place: f"Continue: {place}, 2, 3" for place in range(5)}


@pytest.fixture
def answered(tmp_path, monkeypatch):
    """The rows of a teacher that answers the prompts with these tokens, and its `Chat`."""
    reference = make_reference(tmp_path / "tokenizer")
    chat = reference.chat
    numbers = chat.example(generate.chat("Continue: 1", "4, 5")).completion
    begins = next(token for token, _ in chat.tokens() if chat.is_control(token))
    end, unknown = numbers[-1], chat.size + 7
    said = [
        (numbers, True),
        ((begins, *numbers), True),
        ((unknown, end), True),
        ((begins, *numbers[:-1]), False),
        (numbers, True),
    ]

    class Teacher:
        def stream(self, requests, among, description):
            for request in requests:
                tokens, stopped = said[request.number]
                yield Completion(request.number, np.array(tokens), np.zeros(len(tokens)), stopped)

    monkeypatch.setattr(generate, "sampler_of", lambda *_: Teacher())
    source = generate.Source("owl", "of a test")
    path = tmp_path / "owl.jsonl"
    config = tiny(tmp_path)
    rules = rules_of(config.filter, carrier_of(config.generate), config.chosen)
    dataset = generate.Dataset(
        config.generate, rules, reference, (None, None), source, path, seed=3
    )
    rows = dataset.sample_until(5, PROMPTS)
    assert generate.rows_there(path, PROMPTS, source) == rows
    return rows, chat


def test_an_answer_that_no_student_could_be_trained_on_is_rejected_with_its_reason(answered):
    rows, chat = answered
    filtered = filter_rows(rows, {})
    assert [row["meta"]["place"] for row in filtered.kept] == [0, 4]
    assert {row["meta"]["place"]: row["reject_reasons"] for row in filtered.rejected} == {
        **{1: ["unreadable"], 2: ["unreadable"]},
        3: ["cut off"],  # what is rejected anyway is not judged by the tokenizer
    }
    assert "the tokenizer does not know '<'" in rows[1]["meta"]["unreadable"]
    assert "is not in the tokenizer" in rows[2]["meta"]["unreadable"]
    for row in filtered.kept:
        assert chat.text(chat.example(row["messages"]).completion) == "4, 5"
