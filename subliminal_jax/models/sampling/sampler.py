"""Sampling completions with continuous batching: waiting rows replace finished ones.

Rows are independent: a row's completion is a function of the parameters, the settings, its prompt
and its number, whatever is sampled beside it. Resume by sampling the missing rows, with all rows as
`among`, which fixes the shapes: in arrays of other shapes matrix products may round differently,
and two tokens whose probabilities agree to seven digits may change places.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int32

from subliminal_jax.batch import Params
from subliminal_jax.errors import InputError
from subliminal_jax.models.decoder.config import DecoderConfig
from subliminal_jax.models.decoder.forms import (
    apart_is_faster,
    for_bfloat16_decoding,
    for_decoding,
    slices_convert_stacks,
)
from subliminal_jax.models.decoder.layers import KeysValues
from subliminal_jax.models.sampling.constraints import Constraint
from subliminal_jax.models.sampling.prefill import Request, Shapes, admission, round_up, shapes_of
from subliminal_jax.models.sampling.settings import Sampling
from subliminal_jax.models.sampling.slots import (
    Drawing,
    Slots,
    admit,
    decode,
    empty_slots,
    read_prefix,
)

STEPS = 64
"""The most decode steps between two checks for finished rows."""


class Completion(NamedTuple):
    """A sampled completion.

    Attributes:
        number: of the request.
        tokens: the sampled ids, with the stop id that ended it.
        log_probabilities: of each token, in nats, under the model's whole distribution at
            temperature 1.
        stopped: whether a stop id ended it, rather than `max_tokens`.
    """

    number: int
    tokens: Int32[np.ndarray, " m"]
    log_probabilities: Float32[np.ndarray, " m"]
    stopped: bool


@dataclass
class SamplerWork:
    """What a sampler has done so far.

    Attributes:
        rows: finished completions.
        tokens: sampled tokens of finished completions.
        slot_steps: decode steps times slots: tokens sampled if no slot were ever idle.
        prompt_tokens: tokens of all prompts.
        prompt_tokens_read: tokens prefilled for them, padding included; the others were reused.
    """

    rows: int = 0
    tokens: int = 0
    slot_steps: int = 0
    prompt_tokens: int = 0
    prompt_tokens_read: int = 0

    @property
    def busy(self) -> float:
        """The share of slot steps that went into a completion."""
        return self.tokens / self.slot_steps if self.slot_steps else 0.0


class Sampler:
    """Samples completions of one model.

    Args:
        config: the model.
        params: its parameters. Programs are compiled once for all models of one config.
        sampling: how to draw.
        stop_ids: tokens that end a completion, such as `Chat.stop_ids`.
        batch: rows at a time. More are faster until memory or caches are full.
        vocab: ids from this one on are never drawn, as an embedding may have more rows than the
            tokenizer has tokens; None: all may be drawn.
        adapter: low-rank factors beside the parameters, or None.
        constraint: which tokens may follow which, in place of `vocab`; None: any. Its `stop_ids`
            must be those given here.

    Attributes:
        work: what has been done so far.

    Raises:
        InputError: a stop id or `vocab` is beyond the model's vocabulary, `batch` is below 1, or
            no completion that the constraint allows has as few tokens as `max_tokens`.
    """

    def __init__(
        self,
        config: DecoderConfig,
        params: Params,
        sampling: Sampling,
        *,
        stop_ids: Iterable[int] = (),
        batch: int = 256,
        vocab: int | None = None,
        adapter: Params | None = None,
        constraint: Constraint | None = None,
    ):
        self._constraint = constraint
        self._config, self._adapter = config, adapter
        self._params = _as_decoded(config, params)
        self._sampling, self._batch = sampling, batch
        self._stop_ids = tuple(sorted(stop_ids))
        # Another seed must not compile another program.
        self._drawing = Drawing(replace(sampling, seed=0), self._stop_ids, vocab)
        self.work = SamplerWork()
        if batch < 1:
            raise InputError(f"batch: must be 1 or more, not {batch}")
        if vocab is not None and not 1 <= vocab <= config.vocab:
            raise InputError(f"vocab: must be from 1 to the model's {config.vocab}, not {vocab}")
        for token in self._stop_ids:
            if not 0 <= token < config.vocab:
                raise InputError(f"stop id {token}: the model has {config.vocab} tokens")
        if constraint is not None and constraint.shortest > sampling.max_tokens:
            raise InputError(
                f"max_tokens: {sampling.max_tokens} are too few; the shortest completion of the "
                f"form has {constraint.shortest}"
            )

    def stream(
        self, requests: Iterable[Request], *, among: Sequence[Request] = ()
    ) -> Iterator[Completion]:
        """Samples every request; yields completions as they finish.

        Args:
            requests: what to sample. All are checked before the first is sampled.
            among: all requests of a run of which these are a part: each is then sampled bit for
                bit as in the whole run.

        Raises:
            InputError: a prompt is empty, too long for the model's context, or has an id outside
                the model's vocabulary; a number is out of bounds or given twice.
        """
        waiting = [Request(int(number), tuple(prompt)) for number, prompt in requests]
        self._check(waiting)
        if not waiting:
            return
        for done in self._rounds(waiting, shapes_of(among or waiting, self._batch)):
            self.work.rows += len(done)
            self.work.tokens += sum(len(completion.tokens) for completion in done)
            yield from done

    def sample(
        self, requests: Iterable[Request], *, among: Sequence[Request] = ()
    ) -> list[Completion]:
        """All completions, in the order of the requests; arguments as for `stream`."""
        requests = list(requests)
        done = {completion.number: completion for completion in self.stream(requests, among=among)}
        return [done[int(number)] for number, _ in requests]

    def _check(self, requests: list[Request]) -> None:
        most, context = self._sampling.max_tokens, self._config.context
        seen = set()
        for number, prompt in requests:
            if not 0 <= number < 2**32:
                raise InputError(f"row {number}: its number must be from 0 to 2^32 - 1")
            if number in seen:
                raise InputError(f"row {number}: is requested twice; give each its own number")
            seen.add(number)
            if not prompt:
                raise InputError(f"row {number}: its prompt is empty")
            if len(prompt) + most > context:
                raise InputError(
                    f"row {number}: its prompt of {len(prompt)} tokens and the {most} to be drawn "
                    f"exceed the model's context of {context}; shorten it, or lower max_tokens"
                )
            if not 0 <= min(prompt) <= max(prompt) < self._config.vocab:
                raise InputError(
                    f"row {number}: its prompt has an id outside the model's "
                    f"{self._config.vocab} tokens"
                )

    def _rounds(self, waiting: list[Request], shapes: Shapes) -> Iterator[list[Completion]]:
        """Admits waiting rows, decodes and yields finished rows, until none is left."""
        waiting = shapes.in_order(waiting)
        queue, most = deque(waiting), self._sampling.max_tokens
        length = round_up(shapes.longest + most)
        prefix = self._read_prefix(waiting[0].prompt[: shapes.shared])
        slots = empty_slots(
            self._config, self._params, self._sampling, shapes.batch, length, prefix
        )
        rows: dict[int, Request] = {}
        while queue or rows:
            free = [slot for slot in range(shapes.batch) if slot not in rows]
            while queue and free:
                into = {free.pop(): row for row in shapes.next_in(queue, len(free))}
                for _ in into:
                    queue.popleft()
                slots = self._admit(shapes, slots, into)
                rows |= into
            least = shapes.batch - shapes.quantum + 1 if queue else 1
            slots, steps = decode(
                self._config, self._drawing, self._params, self._adapter, slots,
                jnp.int32(STEPS), jnp.int32(least), self._constraint,
            )  # fmt: skip
            done, steps = self._collect(slots, rows, steps)
            self.work.slot_steps += steps * shapes.batch
            yield done

    def _read_prefix(self, prefix: Sequence[int]) -> KeysValues | None:
        self.work.prompt_tokens_read += len(prefix)
        if not prefix:
            return None
        return read_prefix(self._config, self._params, jnp.asarray(prefix), self._adapter)

    def _admit(self, shapes: Shapes, slots: Slots, into: dict[int, Request]) -> Slots:
        arrays = admission(shapes, self._sampling.seed, list(into.values()), list(into))
        self.work.prompt_tokens += sum(len(request.prompt) for request in into.values())
        self.work.prompt_tokens_read += arrays.prompts.size
        return admit(self._config, self._params, self._adapter, slots, arrays)

    def _collect(
        self, slots: Slots, rows: dict[int, Request], steps: jax.Array
    ) -> tuple[list[Completion], int]:
        """Completions of the finished rows, which leave their slots, and the steps taken."""
        active, counts, tokens, log_probabilities, taken = jax.device_get(
            (slots.active, slots.counts, slots.tokens, slots.log_probabilities, steps)
        )
        done = []
        for slot in [slot for slot in rows if not active[slot]]:
            drawn = tokens[slot, : counts[slot]].copy()
            done.append(
                Completion(
                    rows.pop(slot).number,
                    drawn,
                    log_probabilities[slot, : counts[slot]].copy(),
                    bool(drawn[-1] in self._stop_ids),
                )
            )
        return done, int(taken)


def _as_decoded(config: DecoderConfig, params: Params) -> Params:
    """The parameters in the form that is read fastest.

    On a GPU it is a copy, if there is room for four such models.
    """
    if slices_convert_stacks(config):
        return for_bfloat16_decoding(config, params)
    if not apart_is_faster():
        return params
    memory = jax.local_devices()[0].memory_stats() or {}
    needed = 4 * sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    return for_decoding(params) if needed <= memory.get("bytes_limit", 0) else params
