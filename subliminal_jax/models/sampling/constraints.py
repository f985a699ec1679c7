"""Constrained sampling: an automaton over characters, lifted to the tokens of a vocabulary.

A token is allowed in a state if all of its text leads on from there, and if the completion can
still end in form within its token limit. Tokens that do the same in every state are of one kind, so
that the table has a column for each kind, not for each token; tokens that are never allowed are
left out. Where a text has several spellings in tokens, all are allowed.

Shape letters: b rows, u tokens that are ever allowed, s states, k kinds of tokens.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from subliminal_jax.errors import InputError
from subliminal_jax.models.sampling.automaton import NOWHERE, Automaton, symbol
from subliminal_jax.models.sampling.draws import Allowed

_NEVER = 2**30
"""Tokens to the end of a completion that cannot end."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("tokens", "kinds", "steps", "left"),
    meta_fields=(),
)
@dataclass(frozen=True)
class Constraint:
    """Which tokens may follow which; a row begins in state 0.

    Attributes:
        tokens: ids that are ever allowed, ascending, `[u]`.
        kinds: the kind of each, `[u]`.
        steps: the state behind each state and kind; `NOWHERE` if it is not allowed, `[s, k]`.
        left: the fewest tokens from each state to the end, the stop id included, `[s]`.
    """

    tokens: Any
    kinds: Any
    steps: Any
    left: Any

    @property
    def shortest(self) -> int:
        """Tokens of the shortest completion, its stop id included."""
        return int(self.left[0])

    def allowed(self, states: Int[Array, " b"], remaining: Int[Array, " b"]) -> Allowed:
        """The tokens that each row may draw next.

        Args:
            states: of each row.
            remaining: tokens that each row may still draw, this one included.
        """
        after = self.steps[states]
        fits = self.left[after] < jnp.maximum(remaining, 1)[:, None]
        return Allowed(self.tokens, ((after != NOWHERE) & fits)[:, self.kinds])

    def after(self, states: Int[Array, " b"], drawn: Int[Array, " b"]) -> Int[Array, " b"]:
        """The state of each row behind the token that it drew."""
        return self.steps[states, self.kinds[jnp.searchsorted(self.tokens, drawn)]]


def constraint(
    form: Automaton, pieces: Iterable[tuple[int, str, str]], stop_ids: Iterable[int]
) -> Constraint:
    """The constraint by which completions have a form.

    Args:
        form: what a completion's text must be.
        pieces: ids with the text of each at the beginning of a completion, and behind another
            token; as `Chat.pieces`.
        stop_ids: what may end a completion of the form; no text.

    Raises:
        InputError: no tokens spell any text of the form.
    """
    columns, tokens, kinds = _kinds(form, pieces, set(stop_ids))
    left = _left(columns)
    if left[0] >= _NEVER:
        raise InputError("the tokenizer has no tokens that spell any completion of this form")
    columns = np.where((columns == NOWHERE) | (left[columns] >= _NEVER), NOWHERE, columns)
    reached = _reached(columns)
    renamed = np.full(len(columns), NOWHERE)
    renamed[reached] = np.arange(len(reached))
    columns = columns[reached]
    columns = np.where(columns == NOWHERE, NOWHERE, renamed[columns])
    columns, merged = np.unique(columns, axis=1, return_inverse=True)
    kinds = merged.ravel()[kinds]
    used = (columns != NOWHERE).any(axis=0)[kinds]
    order = np.argsort(tokens[used])
    arrays = (tokens[used][order], kinds[used][order], columns, left[reached])
    return Constraint(*(jnp.asarray(array, jnp.int32) for array in arrays))


def _kinds(
    form: Automaton, pieces: Iterable[tuple[int, str, str]], stop_ids: set[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The state behind each state and kind, and each token with its kind.

    State 0 is that before the first token; then come the automaton's, and a last one for the end.
    """
    count = len(form.steps)
    end = count + 1
    walks = _Walks(form)
    column_of: dict[tuple[int, int], int] = {}
    columns, tokens, kinds = [], [], []

    for token, first, behind in pieces:
        place = walks.end(first)
        ends = place, place if behind == first else walks.end(behind)
        if token in stop_ids or ends == (walks.dead, walks.dead):
            continue
        if ends not in column_of:
            column_of[ends] = len(columns)
            at = walks.ends[ends[0]][0], *walks.ends[ends[1]], NOWHERE
            columns.append([place + 1 if place != NOWHERE else NOWHERE for place in at])
        tokens.append(token)
        kinds.append(column_of[ends])
    stop = [end if over else NOWHERE for over in (form.accepting[0], *form.accepting)]
    columns.append([*stop, end])
    tokens += sorted(stop_ids)
    kinds += [len(columns) - 1] * len(stop_ids)
    return np.array(columns).T, np.array(tokens), np.array(kinds)


class _Walks:
    """Where each text leads from every state, remembered by where its beginning leads."""

    def __init__(self, form: Automaton):
        self._steps = np.vstack([form.steps, np.full(form.steps.shape[1], NOWHERE)])
        self.ends = [tuple(range(len(form.steps)))]
        self._place = {self.ends[0]: 0}
        self._next: list[dict[str, int]] = [{}]
        self.dead = self._add((NOWHERE,) * len(form.steps))

    def end(self, text: str) -> int:
        """The place in `ends` of where a text leads; `dead` if it is empty."""
        place = 0 if text else self.dead
        for character in text:
            after = self._next[place].get(character)
            if after is None:
                states = self._steps[np.array(self.ends[place]), symbol(character)]
                after = self._next[place][character] = self._add(tuple(states.tolist()))
            place = after
            if place == self.dead:
                break
        return place

    def _add(self, states: tuple[int, ...]) -> int:
        if states not in self._place:
            self._place[states] = len(self.ends)
            self.ends.append(states)
            self._next.append({})
        return self._place[states]


def _left(columns: np.ndarray) -> np.ndarray:
    """The fewest tokens from each state to the end, which is the last state."""
    left = np.full(len(columns), _NEVER)
    left[-1] = 0
    while True:
        after = np.where(columns == NOWHERE, _NEVER, left[columns] + 1)
        shorter = np.minimum(left, after.min(axis=1))
        if (shorter == left).all():
            return left
        left = shorter


def _reached(columns: np.ndarray) -> np.ndarray:
    """The states that tokens lead to from the first, in order; the first among them."""
    seen = np.zeros(len(columns), bool)
    waiting, seen[0] = [0], True
    while waiting:
        for state in np.unique(columns[waiting.pop()]).tolist():
            if state != NOWHERE and not seen[state]:
                seen[state] = True
                waiting.append(state)
    return np.flatnonzero(seen)
