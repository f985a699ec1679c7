"""The tiny reference: pretrained on the corpus and cached."""

from pathlib import Path
from typing import Any

import jax
from jaxtyping import Array, Float, Int

from subliminal_jax import ensemble, losses
from subliminal_jax.batch import Batch
from subliminal_jax.config import Precision, config_dict, config_digest
from subliminal_jax.data.tokens import pack_rows
from subliminal_jax.errors import InputError
from subliminal_jax.execution import hosts
from subliminal_jax.execution.choose import the_same_on_every_host
from subliminal_jax.files import file_digest
from subliminal_jax.keys import named_key, root_key
from subliminal_jax.language.reference import Reference
from subliminal_jax.language.settings import SAVE_SECONDS, ReferenceConfig
from subliminal_jax.language.tiny.corpus import World, corpus, texts
from subliminal_jax.language.tiny.tokenizer import build_tokenizer, tokenizer_files
from subliminal_jax.language.training.answers import (
    AnswerTable,
    answer_table,
    full_apply,
    orders,
    select_batch,
)
from subliminal_jax.language.training.task import chunks, train_networks
from subliminal_jax.language.training.trees import load_tree, tree_bytes
from subliminal_jax.models.decoder import decoder
from subliminal_jax.models.decoder.config import Compute, DecoderConfig
from subliminal_jax.models.text.chat import Chat
from subliminal_jax.optimizers import Schedule, language_optimizer
from subliminal_jax.runs.refusals import Wording
from subliminal_jax.runs.run_directory import BOOKKEEPING
from subliminal_jax.runs.shared_run import shared_run
from subliminal_jax.runs.training_loop import Saving, Training
from subliminal_jax.train import init_state, make_loss_fn

CHUNK = 100
"""Maximum steps in one call of the compiled program."""
PARAMS, CHECKPOINTS, METRICS = "params.npz", "checkpoints", "metrics"
WITHOUT_EFFECT = ("model", "template", "options", "dtype", "cache")
"""Settings that do not affect a tiny reference."""


def tiny_config(
    reference: ReferenceConfig, vocabulary: int, precision: Precision = "float32"
) -> DecoderConfig:
    """Architecture of the tiny model: a Llama with tied embeddings."""
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
        compute=Compute(dtype=precision),
    )


CACHE = Wording("--reference.cache", "remove that directory to pretrain it again")
"""Wording of errors about a tiny reference's directory."""


def tiny_origin(
    reference: ReferenceConfig, world: World, seed: int, precision: Precision = "float32"
) -> tuple[Path, dict[str, Any]]:
    """Cache directory of a seed's tiny reference, and everything that it is made from."""
    kept = {k: v for k, v in config_dict(reference).items() if k not in WITHOUT_EFFECT}
    made_from = {"reference": kept, "seed": seed, "precision": precision, **world.described}
    return reference.cache / config_digest(made_from)[:16], made_from


def tiny_reference(
    reference: ReferenceConfig,
    world: World,
    seed: int,
    precision: Precision = "float32",
    save_seconds: float = SAVE_SECONDS,
) -> Reference:
    """The tiny reference of a seed, from the cache or pretrained and cached now.

    It waits while another process pretrains the same one. On several hosts each does the whole
    training, which is small, and the first one writes.

    Args:
        reference: settings of the model, corpus and training.
        world: what the corpus is about.
        seed: seed of initialisation, corpus and order.
        precision: of activations and products, in pretraining too.
        save_seconds: seconds between two checkpoints.

    Raises:
        InputError: a cached file was changed since, or the cache cannot be used.
        RunError: the loss is not finite.
    """
    path, made_from = tiny_origin(reference, world, seed, precision)
    makes = f"the reference of seed {seed}"
    with shared_run(path, made_from, wording=CACHE, makes=makes) as directory:
        tokenizer = build_tokenizer(texts(world), reference.numbers)
        config = tiny_config(reference, tokenizer.get_vocab_size(), precision)
        results = directory.results()
        written = tokenizer_files(tokenizer, reference.context)
        files = None if results is None else results["files"]
        if files is not None:
            hosts.on_first(lambda: _check_files(directory.path, files))
        else:
            for name, text in written.items():
                directory.write(name, text)
        chat = Chat.load(directory.path)
        if files is None:
            table = pretraining_table(reference, world, seed, chat)
            checkpoints = directory.subdirectory(CHECKPOINTS)
            saving = Saving(
                directory=checkpoints,
                origin=made_from,
                seconds=save_seconds,
                metrics=directory.subdirectory(METRICS) / "reference.jsonl",
            )
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
    """Refuses a cached reference with a changed, missing or additional file."""
    for name, digest in digests.items():
        if not (path / name).is_file() or file_digest(path / name) != digest:
            raise InputError(
                f"{path / name}: missing or changed since it was written; remove {path} to "
                "pretrain the reference again"
            )
    known = {*digests, *BOOKKEEPING, CHECKPOINTS, METRICS}
    for name in sorted({file.name for file in path.iterdir()} - known):
        if not name.startswith("."):
            raise InputError(f"{path / name}: not a file of this reference; move it away")


def pretraining_table(
    reference: ReferenceConfig, world: World, seed: int, chat: Chat
) -> AnswerTable:
    """The corpus of a seed, packed into sequences; targets are the assistant's tokens."""
    chats = corpus(reference.corpus, world, seed)
    return answer_table(pack_rows(chat.examples(chats), reference.sequence))


def pretraining_order(
    seed: int, sequences: int, batch: int, steps: int
) -> tuple[Int[Array, "s b"], Float[Array, "s b"]]:
    """The sequences of every step of a pretraining, and their weights, as of `orders`."""
    return orders(named_key(root_key(seed), "pretraining order"), sequences, batch, steps)


def pretrain(
    reference: ReferenceConfig,
    config: DecoderConfig,
    table: AnswerTable,
    seed: int,
    saving: Saving,
) -> Any:
    """A tiny reference's trained parameters; AdamW with warmup and cosine decay.

    Args:
        reference: steps, batch and learning rate.
        config: architecture of the model.
        table: packed corpus.
        seed: seed of initialisation and order.
        saving: where to keep checkpoints until training is done.

    Returns:
        NumPy arrays, on every host.

    Raises:
        RunError: the loss is not finite; names the step.
        Stopped: SIGTERM or SIGINT was received; the state is saved.
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
    execution = the_same_on_every_host()
    order = pretraining_order(seed, table.sequences, reference.batch, reference.steps)
    shared = execution.share(table)

    def batch(order: Any, table: AnswerTable, step: Array) -> Batch:
        rows, counts = order
        return select_batch(table, rows[step], counts[step])

    def inputs(first: int, size: int) -> tuple[Any, Any]:
        shown = tuple(leaf[None, first : first + size] for leaf in order)
        return execution.split(shown), shared

    loss = lambda order, table: make_loss_fn(full_apply(config), losses.cross_entropy)
    training = Training(
        title=f"pretrain reference {seed}",
        name=lambda member: f"reference of seed {seed}",
        setting="reference.learning_rate",
        steps=reference.steps,
        size=CHUNK,
        chunk=chunks(execution, tx, loss, batch),
        inputs=inputs,
    )
    params = decoder.init(config, named_key(key, "initialisation"))
    states = ensemble.stack([init_state(params, tx)])
    return jax.tree.map(lambda leaf: leaf[0], train_networks(training, execution, states, saving))
