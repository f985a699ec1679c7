"""A teacher's answers as rows; one that no student could be trained on says so."""

from sampled import sampled

from subliminal_jax.models.chat import Chat
from subliminal_jax.pipeline.filters import filter_rows


def test_an_answer_that_spells_a_control_token_is_rejected_with_its_reason(tmp_path):
    """The model has learnt nothing, so it draws control tokens as often as words."""
    rows, chat = sampled(tmp_path), Chat.load(tmp_path / "words-0")
    filtered = filter_rows(rows, {})
    unreadable = [row for row in filtered.rejected if "unreadable" in row["meta"]]
    assert len(unreadable) > 2
    for row in unreadable:
        assert "<" in row["messages"][-1]["content"]
        assert "the tokenizer does not know '<'" in row["meta"]["unreadable"]
        assert "unreadable" in row["reject_reasons"]
    for row in filtered.kept:
        assert chat.text(chat.example(row["messages"]).completion) == row["messages"][-1]["content"]
    assert filtered.kept
