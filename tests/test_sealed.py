"""Values that carry their digest: every change is detected, reformatting is not a change."""

import json

import pytest

from subliminal_jax.errors import RunError
from subliminal_jax.runs.sealed import sealed, unsealed

VALUE = {
    "member": 3,
    "accuracy": {"teacher": 0.1 + 0.2, "tiny": 5e-324},
    "places": (1, 2),
    "ü": None,
}
SEALED = sealed(VALUE, "digest", "run", "rows.jsonl")


def test_a_value_survives_writing_and_reading():
    again = json.loads(json.dumps(SEALED, indent=3, sort_keys=True))
    assert unsealed(again, "digest", "run", "rows.jsonl") == {**VALUE, "places": [1, 2]}
    assert len(SEALED["digest"]) == 16


@pytest.mark.parametrize(
    "change",
    [
        {"member": 4},
        {"member": 3.0},
        {"member": "3"},
        {"accuracy": {"teacher": 0.3, "tiny": 5e-324}},
        {"accuracy": {"teacher": 0.1 + 0.2}},
        {"places": [2, 1]},
        {"more": 1},
        {"digest": "0" * 16},
        {"digest": None},
        {"member": float("inf")},
    ],
)
def test_a_change_is_detected(change):
    assert unsealed(SEALED | change, "digest", "run", "rows.jsonl") is None


def test_another_origin_is_detected():
    for origin in (("other", "rows.jsonl"), ("run", "more.jsonl"), ("run",), ()):
        assert unsealed(SEALED, "digest", *origin) is None
    for value in ([], None, "text", {}, VALUE):
        assert unsealed(value, "digest", "run", "rows.jsonl") is None


def test_values_that_cannot_be_sealed():
    with pytest.raises(RunError, match=r"^loss is nan"):
        sealed({"loss": float("nan")}, "digest")
    with pytest.raises(ValueError, match="digest is the name of the digest"):
        sealed({"digest": 1}, "digest")
