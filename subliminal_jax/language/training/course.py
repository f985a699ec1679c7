"""The rows of students as sequences, and the order in which they are read."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jaxtyping import Array, Float, Int

from subliminal_jax.data.epoch_order import steps_per_epoch
from subliminal_jax.data.tokens import (
    TokenRow,
    TokenTable,
    pack_rows,
    shared_length,
    without_prefix,
)
from subliminal_jax.errors import InputError
from subliminal_jax.keys import named_key, root_key
from subliminal_jax.language.reference import Reference
from subliminal_jax.language.settings import StudentConfig
from subliminal_jax.language.training.answers import (
    AnswerTable,
    answer_table,
    orders,
    stack_tables,
)
from subliminal_jax.models.text.chat import Chat


@dataclass(frozen=True)
class StudentRows:
    """The rows of all students of one program.

    Attributes:
        prefix: token ids that begin every row, such as a chat template's.
        tables: what follows them, packed into sequences, by student.
    """

    prefix: tuple[int, ...]
    tables: Mapping[str, TokenTable]

    @cached_property
    def table(self) -> AnswerTable:
        """All tables as one, `[students, N, T]`; those with fewer sequences are zero-padded."""
        return stack_tables([answer_table(table) for table in self.tables.values()])


@dataclass(frozen=True, kw_only=True)
class StudentCourse:
    """What all students of one program read, step by step.

    Attributes:
        rows: rows of all students.
        seed: seed of the repetition.
        batch: sequences in a step.
        steps: number of steps.
    """

    rows: StudentRows
    seed: int
    batch: int
    steps: int

    @property
    def order(self) -> tuple[Int[Array, "s b"], Float[Array, "s b"]]:
        """The sequences of every step, the same for each student, and their weights."""
        key = named_key(root_key(self.seed), "student order")
        return orders(key, self.rows.table.sequences, self.batch, self.steps)

    @property
    def packing(self) -> dict[str, int]:
        """How the rows are packed; packed otherwise, they are read in other steps."""
        sequences = self.rows.table.sequences
        return {"prefix": len(self.rows.prefix), "sequences": sequences, "batch": self.batch}


def course_of(settings: StudentConfig, rows: StudentRows, count: int, seed: int) -> StudentCourse:
    """The course of students.

    Args:
        settings: rows in a step, and epochs.
        rows: rows of all students.
        count: number of rows of each.
        seed: seed of the repetition.
    """
    sequences = rows.table.sequences
    batch = max(1, round(settings.batch * sequences / count))
    steps = max(1, round(settings.epochs * steps_per_epoch(sequences, batch)))
    return StudentCourse(rows=rows, seed=seed, batch=batch, steps=steps)


def student_rows(
    reference: Reference, datasets: Mapping[str, Sequence[dict[str, Any]]], sequence: int
) -> StudentRows:
    """The rows of every student, in sequences of this many tokens behind their shared prefix.

    Raises:
        InputError: a row is refused, or does not fit into a sequence or into the model's context;
            names student and row.
    """
    examples = student_examples(reference.chat, datasets)
    for name, rows in examples.items():
        with _naming(name):
            for number, row in enumerate(rows):
                reference.check_fits(row, f"row {number}", "remove the row")
    return packed_examples(examples, sequence)


def student_examples(
    chat: Chat, datasets: Mapping[str, Sequence[dict[str, Any]]]
) -> dict[str, list[TokenRow]]:
    """The token ids of every student's rows.

    Raises:
        InputError: a row is refused; names student and row.
    """
    examples: dict[str, list[TokenRow]] = {}
    for name, rows in datasets.items():
        with _naming(name):
            examples[name] = list(chat.examples(row["messages"] for row in rows))
    return examples


def packed_examples(examples: Mapping[str, Sequence[TokenRow]], sequence: int) -> StudentRows:
    """Every student's examples, in sequences of this many tokens behind their shared prefix.

    Raises:
        InputError: a student has no examples, or one does not fit into a sequence; names both.
    """
    prompts = [prompt for each in examples.values() for prompt, _ in each]
    length = shared_length(prompts)
    tables = {}
    for name, each in examples.items():
        with _naming(name if not length else f"{name}, behind the {length} tokens that all share"):
            tables[name] = pack_rows(without_prefix(each, length), sequence)
    return StudentRows(tuple(prompts[0][:length]), tables)


@contextmanager
def _naming(whose: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"rows of {whose}: {error}") from error
