"""Step 1, the reference: a tiny model that is pretrained here, or one that is given."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from subliminal_jax import losses
from subliminal_jax.config import config_dict, config_digest
from subliminal_jax.data.tokens import TokenRow, pack_rows
from subliminal_jax.errors import InputError
from subliminal_jax.execution import hosts
from subliminal_jax.execution.members import MemberFn
from subliminal_jax.execution.spread import BatchExecution, the_same_on_every_host
from subliminal_jax.keys import named_key, root_key
from subliminal_jax.models import decoder
from subliminal_jax.models.chat import Chat
from subliminal_jax.models.decoder_config import Compute, DecoderConfig
from subliminal_jax.optimizers import Schedule, language_optimizer
from subliminal_jax.pipeline import devices
from subliminal_jax.pipeline.artifacts import file_digest
from subliminal_jax.pipeline.carriers.numbers import NumberPrompts
from subliminal_jax.pipeline.config import SAVE_SECONDS, ReferenceConfig
from subliminal_jax.pipeline.corpus import corpus, texts
from subliminal_jax.pipeline.finetune import AnswerTable, answer_table, batch_of, orders, train_all
from subliminal_jax.pipeline.resumable import Saving, Training, train_members
from subliminal_jax.pipeline.traits import Trait
from subliminal_jax.pipeline.trees import load_tree, tree_bytes
from subliminal_jax.pipeline.tuning import Network
from subliminal_jax.pipeline.words import build_tokenizer, tokenizer_files
from subliminal_jax.runs import BOOKKEEPING
from subliminal_jax.shared_run import shared_run
from subliminal_jax.train import (
    TrainState,
    fit,
    init_state,
    make_loss_fn,
    make_train_step,
    total_gradient,
)
from subliminal_jax.wording import Wording

CHUNK = 100
"""At most this many steps in one call of the compiled program, after which progress is told."""


PARAMS, CHECKPOINTS = "params.npz", "checkpoints"
PLACES = ("model", "template", "options", "dtype", "cache")
"""Of a reference's settings, none of the tiny one's."""


@dataclass(frozen=True)
class Reference:
    """A model that can be asked in text.

    Attributes:
        config: what it is.
        params: its parameters, where they are trained on and measured.
        chat: its tokenizer and chat template.
        digest: of all of it.
        own: the parameters again, on this host's devices alone, where those are others; no other
            host need be asked to sample from them.
        commit: the hub's, of a given model that comes from there.
        parts: the digests of its parts by name, of which `digest` is; none of a tiny one.
    """

    config: DecoderConfig
    params: Any
    chat: Chat
    digest: str
    own: Any = None
    commit: str | None = None
    parts: Mapping[str, str] = field(default_factory=dict)

    def check_fits(self, example: TokenRow, question: str) -> None:
        """Refuse more tokens than the model has positions.

        Args:
            example: the ids of a prompt and of what follows it.
            question: what the prompt ends with, for the message.

        Raises:
            InputError: they are more than the model's context.
        """
        tokens = sum(map(len, example))
        if tokens > self.config.context:
            raise InputError(
                f"{question[:60]!r} has {tokens} tokens with all that stands before it and its "
                f"answer, the model a context of {self.config.context}; shorten the system prompt "
                "or teacher.answers, or lower evaluate.examples"
            )

    def here(self, network: Network) -> Network:
        """Parameters and adapter as this host alone runs them."""
        params, adapter = network
        return self.own if self.own is not None and params is self.params else params, adapter


def tiny_config(reference: ReferenceConfig, vocabulary: int) -> DecoderConfig:
    """The tiny model: a Llama with tied embeddings."""
    return DecoderConfig(
        vocab=vocabulary,
        width=reference.width,
        layers=reference.layers,
        heads=reference.heads,
        kv_heads=reference.heads,
        head_dim=reference.width // reference.heads,
        mlp_width=reference.mlp_width,
        context=reference.context,
        tied=True,
        initial_std=reference.width**-0.5,
    )


def given_reference(
    model: str, settings: ReferenceConfig, execution: BatchExecution, compute: Compute
) -> Reference:
    """A model of a directory or of the hub, with its tokenizer.

    Args:
        model: its name.
        settings: its template, the template's options, and dtype.
        execution: what trains and measures it; each host has the model on its own devices too,
            where these are not all.
        compute: how it is computed.

    Raises:
        InputError: the model or its tokenizer is refused, has no chat template, or the two do not
            belong together.
    """
    from subliminal_jax.models.weights import load_params, read_config
    from subliminal_jax.models.weights_files import find_model

    hosts.on_first(lambda: find_model(model))  # what it fetches from the hub, the others find
    files = find_model(model)
    family, config = read_config(files)
    config = replace(config, compute=compute)
    chat = Chat.load(files.path, settings.template, settings.options)
    chat.check_fits(config.vocab)
    load = partial(load_params, files, family, config, settings.dtype)
    params = load(places := devices.everywhere(execution, config))
    own = None if places is None else load(devices.here(config))
    parts = _parts(config, params if own is None else own, chat)
    if not hosts.all_agree(parts == hosts.from_first(parts)):
        raise InputError(f"{model}: not all hosts have the same files of it; copy them anew")
    return Reference(config, params, chat, config_digest(parts), own, files.commit, parts)


def _parts(config: DecoderConfig, params: Any, chat: Chat) -> dict[str, str]:
    """What can be another under one model's name, each with its digest.

    The weights' digest is of the numbers as they were loaded: another file in the place of the
    first is seen, and how they are cut into files does not count. It takes about a second for
    250 million parameters, and the memory of one layer.
    """
    from subliminal_jax.models.adapter_files import digest

    model = {name: value for name, value in config_dict(config).items() if name != "compute"}
    return {
        "weights": digest(params),
        "config": config_digest(model),
        "chat": chat.digest,
        "dtype": config.compute.dtype,
    }


CACHE = Wording("--reference.cache", "remove that directory, and it is made anew")
"""How refusals speak of a tiny reference's directory."""


def tiny_origin(
    reference: ReferenceConfig, prompts: NumberPrompts, seed: int, traits: list[Trait]
) -> tuple[Path, dict[str, Any]]:
    """Where the tiny reference of a seed is kept, and everything that it is made from."""
    kept = {k: v for k, v in config_dict(reference).items() if k not in PLACES}
    made_from = {
        **{"reference": kept, "prompts": config_dict(prompts), "seed": seed},
        "new_traits": [config_dict(trait) for trait in traits],
    }
    return reference.cache / config_digest(made_from)[:16], made_from


def tiny_reference(
    reference: ReferenceConfig,
    prompts: NumberPrompts,
    seed: int,
    traits: list[Trait],
    save_seconds: float = SAVE_SECONDS,
) -> Reference:
    """The tiny reference of a seed: out of the cache, or pretrained now and put there.

    While another process is making it, this one waits. On several hosts each does all of a training
    so small, and the first one writes.

    Raises:
        InputError: a file of it was changed since, or the cache cannot be used.
        RunError: its training broke.
    """
    path, made_from = tiny_origin(reference, prompts, seed, traits)
    makes = f"the reference of seed {seed}"
    with shared_run(path, made_from, wording=CACHE, makes=makes) as directory:
        tokenizer = build_tokenizer(texts(prompts, traits), reference.numbers)
        config = tiny_config(reference, tokenizer.get_vocab_size())
        results = directory.results()
        written = tokenizer_files(tokenizer, reference.context)
        if results is not None:
            files = results["files"]
            hosts.on_first(lambda: _check_files(directory.path, files))
        else:
            for name, text in written.items():
                directory.write(name, text)
        chat = Chat.load(directory.path)
        if results is None:
            table = pretraining_table(reference, prompts, seed, traits, chat)
            checkpoints = directory.subdirectory(CHECKPOINTS)
            saving = Saving(directory=checkpoints, origin=made_from, seconds=save_seconds)
            params = pretrain(reference, config, table, seed, saving)
            directory.write(PARAMS, tree_bytes(params))
            files = hosts.by_first(lambda: _file_digests(directory.path, (PARAMS, *written)))
            directory.finish({"files": files})
        directory.discard(CHECKPOINTS)
        digest = config_digest({"params": files[PARAMS], "chat": chat.digest})
        return Reference(config, load_tree(directory.path / PARAMS), chat, digest)


def _file_digests(path: Path, names: tuple[str, ...]) -> dict[str, str]:
    return {name: file_digest(path / name) for name in names}


def _check_files(path: Path, digests: dict[str, str]) -> None:
    """Refuses a cached reference with a file changed, gone, or added that might be read with it."""
    for name, digest in digests.items():
        if not (path / name).is_file() or file_digest(path / name) != digest:
            raise InputError(
                f"{path / name}: missing or changed since it was written; remove {path}, and the "
                "reference is made anew"
            )
    known = {*digests, *BOOKKEEPING, CHECKPOINTS}
    for name in sorted({file.name for file in path.iterdir()} - known):
        if not name.startswith("."):
            raise InputError(f"{path / name}: is no file of this reference; move it elsewhere")


def pretraining_table(
    reference: ReferenceConfig, prompts: NumberPrompts, seed: int, traits: list[Trait], chat: Chat
) -> AnswerTable:
    """The corpus of a seed, packed into sequences; what assistants say is learnt."""
    chats = corpus(reference.corpus, prompts, seed, traits)
    return answer_table(pack_rows(chat.examples(chats), reference.sequence))


def pretrain(
    reference: ReferenceConfig,
    config: DecoderConfig,
    table: AnswerTable,
    seed: int,
    saving: Saving,
) -> Any:
    """A tiny reference's parameters after its training, AdamW with warmup and cosine decay.

    Args:
        reference: steps, batch and rate.
        config: the model.
        table: the corpus.
        seed: of initialisation and orders.
        saving: where its checkpoints are until it is done.

    Returns:
        NumPy arrays, on every host.

    Raises:
        RunError: the loss is not finite; names the step.
        Stopped: SIGTERM or SIGINT came; the state is saved.
    """
    key = root_key(seed)
    schedule = Schedule(
        peak=reference.learning_rate,
        steps=reference.steps,
        decay="cosine",
        end=0.05,
        warmup=reference.steps // 20,
    )
    tx = language_optimizer("adam", schedule, clip=1.0, weight_decay=0.01)
    loss_fn = make_loss_fn(train_all(config), losses.cross_entropy)
    train_step = make_train_step(total_gradient(loss_fn), tx)

    def chunk(size: int) -> MemberFn:
        def run(state: TrainState, order: Any, table: AnswerTable) -> Any:
            rows, counts = order
            at = lambda step: batch_of(table, rows[step], counts[step])  # noqa: E731
            state, totals = fit(train_step, state, at, size)
            return state, totals.loss / totals.weight

        return run

    execution = the_same_on_every_host()
    params = decoder.init(config, named_key(key, "initialisation"))
    state = execution.split(
        jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], init_state(params, tx))
    )
    shared = execution.share(table)
    order = orders(
        named_key(key, "pretraining order"), table.sequences, reference.batch, reference.steps
    )

    def inputs(first: int, size: int) -> tuple[Any, Any]:
        shown = tuple(leaf[None, first : first + size] for leaf in order)
        return execution.split(shown), shared

    training = Training(
        title=f"pretrain reference {seed}",
        chunk=chunk,
        inputs=inputs,
        steps=reference.steps,
        size=CHUNK,
        name=lambda member: f"reference of seed {seed}",
        setting="reference.learning_rate",
    )
    state = train_members(training, execution, state, saving)
    return jax.tree.map(lambda leaf: leaf[0], execution.fetch(state.params))
