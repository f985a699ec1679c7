"""Finite automata over characters, which say what form a text must have.

A form is built from a few expressions, as regular expressions are: `text`, `one_of`, `sequence`,
`either`, `repeat`. Each character of ASCII is a symbol; all others together are one more.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

OTHER = 128
"""The symbol of every character beyond ASCII."""
SYMBOLS = OTHER + 1
NOWHERE = -1
PLAIN = frozenset((*range(32, 127), OTHER))
"""Symbols of printable characters."""


def symbol(character: str) -> int:
    """The symbol of a character."""
    return min(ord(character), OTHER)


@dataclass(frozen=True)
class Automaton:
    """A deterministic automaton; state 0 is the first.

    Attributes:
        steps: int32, `[s, 129]`: the state behind each state and symbol; `NOWHERE` if no text goes
            on so.
        accepting: bool, `[s]`: whether a text may end in each state.
    """

    steps: np.ndarray
    accepting: np.ndarray


class _Graph:
    """A nondeterministic automaton in the making."""

    def __init__(self) -> None:
        self.edges: list[list[tuple[frozenset[int], int]]] = []
        self.free: list[list[int]] = []

    def node(self) -> int:
        self.edges.append([])
        self.free.append([])
        return len(self.edges) - 1

    def behind(self, node: int, end: int) -> set[int]:
        """The node, and all that are reached from it without a symbol; of these, those that count.

        They are those with edges, and the `end`.
        """
        reached, waiting = {node}, [node]
        while waiting:
            new = [one for one in self.free[waiting.pop()] if one not in reached]
            reached.update(new)
            waiting += new
        return {one for one in reached if self.edges[one] or one == end}


Form = Callable[[_Graph, int], int]
"""Adds itself to a graph behind a node; returns the node where it ends."""


def one_of(symbols: Iterable[int] | str) -> Form:
    """Any one of these characters, or of these symbols."""
    chosen = frozenset(map(symbol, symbols) if isinstance(symbols, str) else symbols)

    def build(graph: _Graph, start: int) -> int:
        end = graph.node()
        graph.edges[start].append((chosen, end))
        return end

    return build


def plain(without: str = "") -> Form:
    """Any printable character but these."""
    return one_of(PLAIN.difference(map(symbol, without)))


def text(given: str) -> Form:
    """Exactly this text."""
    return sequence(*map(one_of, given))


def sequence(*parts: Form) -> Form:
    """The parts, one behind the other."""

    def build(graph: _Graph, start: int) -> int:
        for part in parts:
            start = part(graph, start)
        return start

    return build


def either(*parts: Form) -> Form:
    """Any one of the parts."""

    def build(graph: _Graph, start: int) -> int:
        end = graph.node()
        for part in parts:
            inner = graph.node()
            graph.free[start].append(inner)
            graph.free[part(graph, inner)].append(end)
        return end

    return build


def repeat(part: Form, least: int, most: int | None = None) -> Form:
    """The part `least` to `most` times in a row; None: without end."""

    def build(graph: _Graph, start: int) -> int:
        for _ in range(least):
            start = part(graph, start)
        end = graph.node()
        if most is None:
            graph.free[start].append(end)
            graph.free[part(graph, end)].append(end)
            return end
        for _ in range(most - least):
            graph.free[start].append(end)
            start = part(graph, start)
        graph.free[start].append(end)
        return end

    return build


def maybe(part: Form) -> Form:
    """The part, or nothing."""
    return repeat(part, 0, 1)


def automaton(form: Form) -> Automaton:
    """The least deterministic automaton of a form."""
    graph = _Graph()
    start = graph.node()
    end = form(graph, start)
    groups = list(_alike(graph))
    of = {one: column for column, group in enumerate(groups) for one in group}
    columns = {
        symbols: {of[one] for one in symbols} for edges in graph.edges for symbols, _ in edges
    }
    leads = [
        [
            (column, behind)
            for symbols, to in edges
            for behind in [graph.behind(to, end)]
            for column in columns[symbols]
        ]
        for edges in graph.edges
    ]
    first = frozenset(graph.behind(start, end))
    place, states = {first: 0}, [first]
    rows: list[list[int]] = []
    for state in states:  # grows meanwhile
        reached: dict[int, set[int]] = {}
        for node in state:
            for column, nodes in leads[node]:
                reached.setdefault(column, set()).update(nodes)
        rows.append([NOWHERE] * len(groups))
        for column, nodes in reached.items():
            after = frozenset(nodes)
            if after not in place:
                place[after] = len(states)
                states.append(after)
            rows[-1][column] = place[after]
    accepting = np.array([end in state for state in states])
    merged, accepting = _merged(_alive(np.array(rows, np.int32), accepting), accepting)
    whole = np.full((len(merged), SYMBOLS), NOWHERE, np.int32)
    for column, group in enumerate(groups):
        whole[:, sorted(group)] = merged[:, column, None]
    return Automaton(whole, accepting)


def _alike(graph: _Graph) -> Iterator[frozenset[int]]:
    """The symbols in groups, within which no edge tells them apart; without those of no edge."""
    chosen = {symbols for edges in graph.edges for symbols, _ in edges}
    groups: dict[tuple[bool, ...], set[int]] = {}
    for one in range(SYMBOLS):
        groups.setdefault(tuple(one in symbols for symbols in chosen), set()).add(one)
    yield from (frozenset(group) for signs, group in groups.items() if any(signs))


def _alive(steps: np.ndarray, accepting: np.ndarray) -> np.ndarray:
    """The steps without those into states from which no text ends."""
    alive, before = accepting, 0
    while alive.sum() > before:
        before = alive.sum()
        alive = alive | ((steps != NOWHERE) & alive[steps]).any(axis=1)
    return np.where((steps != NOWHERE) & alive[steps], steps, NOWHERE)


def _merged(steps: np.ndarray, accepting: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The minimal automaton: equivalent states are merged, and the initial one stays state 0."""
    kinds, count = accepting.astype(np.int64), 0
    while len(np.unique(kinds)) > count:  # until no kind is split any more
        count = len(np.unique(kinds))
        after = np.where(steps == NOWHERE, NOWHERE, kinds[steps])
        kinds = np.unique(np.column_stack([kinds, after]), axis=0, return_inverse=True)[1].ravel()
    places, some = {int(kinds[0]): 0}, [0]
    for state in some:  # grows meanwhile; a state that is not reached is left out
        for after in steps[state][steps[state] != NOWHERE].tolist():
            if int(kinds[after]) not in places:
                places[int(kinds[after])] = len(some)
                some.append(after)
    renamed = np.array([places.get(int(kind), NOWHERE) for kind in kinds])
    after = np.where(steps[some] == NOWHERE, NOWHERE, renamed[steps[some]])
    return after.astype(np.int32), accepting[some]
