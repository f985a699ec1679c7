"""Step 1, the reference: a model with its tokenizer, and how to load a given one."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from subliminal_jax.config import config_dict, config_digest
from subliminal_jax.data.tokens import TokenRow
from subliminal_jax.errors import InputError
from subliminal_jax.execution import hosts
from subliminal_jax.execution.protocol import Execution
from subliminal_jax.keys import named_key, root_key
from subliminal_jax.language.settings import ReferenceConfig
from subliminal_jax.language.training import devices
from subliminal_jax.language.training.trainable import Network
from subliminal_jax.models.decoder import forms
from subliminal_jax.models.decoder.config import Compute, DecoderConfig
from subliminal_jax.models.text.chat import Chat

SHORTEN = "shorten the system prompt or teacher.answers, or lower evaluate.examples"
"""What to do about a question that exceeds the context, with what precedes it and its answer."""


@dataclass(frozen=True)
class Reference:
    """A model with its tokenizer.

    Attributes:
        config: its architecture.
        params: its parameters, on the devices that train and measure it.
        chat: its tokenizer and chat template.
        digest: identifies model and tokenizer.
        own: a copy of the parameters on this host's devices, to sample from without the other
            hosts; None if `params` are there already.
        commit: commit on the hub; None unless the model was downloaded.
        parts: digests of a given model's parts by name, which `digest` covers; empty for a tiny
            one.
    """

    config: DecoderConfig
    params: Any
    chat: Chat
    digest: str
    own: Any = None
    commit: str | None = None
    parts: Mapping[str, str] = field(default_factory=dict)

    def check_fits(self, example: TokenRow, what: str, remedy: str = SHORTEN) -> None:
        """Refuses an example of which more tokens are read than the model's context holds.

        Args:
            example: token ids of a prompt and of its completion.
            what: names the example in the message.
            remedy: what the message says to do.

        Raises:
            InputError: the example exceeds the context.
        """
        tokens = sum(map(len, example))
        if tokens > self.config.context + 1:  # the last token is predicted, and not read
            raise InputError(
                f"{what}: its {tokens} tokens exceed the model's context of "
                f"{self.config.context}; {remedy}"
            )

    def here(self, network: Network) -> Network:
        """The network, with parameters on this host's own devices."""
        params, adapter = network
        if params is self.params and self.own is not None:
            params = self.own
        return params, adapter


def given_reference(
    model: str, settings: ReferenceConfig, execution: Execution, compute: Compute
) -> Reference:
    """Loads a model and its tokenizer from a directory, a GGUF file or the hub.

    Args:
        model: as of `find_model`.
        settings: chat template, the template's options, and dtype.
        execution: devices that train and measure it; each host also loads it onto its own devices
            if these are not all.
        compute: dtype, attention kernel and rematerialisation.

    Raises:
        InputError: the model or its tokenizer is refused, has no chat template, or the two do not
            fit together; or hosts have different files.
    """
    from subliminal_jax.models.hub.gguf.files import model_digest
    from subliminal_jax.models.hub.model_files import find_model
    from subliminal_jax.models.hub.weights import load_params, read_config

    hosts.on_first(lambda: find_model(model))  # downloads once, for all hosts
    files = find_model(model)
    family, config = read_config(files)
    config = replace(config, compute=compute)
    chat = Chat.load(files.path, settings.template, settings.options)
    chat.check_fits(config.vocab)
    load = partial(load_params, files, family, config, settings.dtype or "float32")
    params = load(places := devices.everywhere(execution, config))
    own = None if places is None else load(devices.here(config))
    parts = _parts(config, params if own is None else own, chat)
    if files.gguf:
        parts["file"] = model_digest(files.gguf)
    if not hosts.all_agree(parts == hosts.from_first(parts)):
        raise InputError(f"{model}: its files differ between hosts; copy them again")
    params = devices.as_trained(execution, params)
    return Reference(config, params, chat, config_digest(parts), own, files.commit, parts)


def other_reference(
    model: str, settings: ReferenceConfig, execution: Execution, compute: Compute
) -> Reference:
    """Loads the other reference beside a given one: another model, or the same one perturbed.

    The arguments are those of `given_reference`, for the reference itself.

    Raises:
        InputError: as for `given_reference`.
    """
    other = settings.other
    if other is None:
        raise ValueError("there is no other reference")
    if other.model is not None:
        settings = replace(settings, model=other.model, template=other.template)
    reference = given_reference(other.model or model, settings, execution, compute)
    if not other.sigma:
        return reference
    params = perturbed(reference.params, other.sigma)
    own = None if reference.own is None else perturbed(reference.own, other.sigma)
    parts = {**reference.parts, "perturbed": repr(other.sigma)}
    return replace(reference, params=params, own=own, parts=parts, digest=config_digest(parts))


def perturbed(params: Any, sigma: float) -> Any:
    """Parameters with normal noise on every matrix, `sigma` times its own standard deviation.

    Biases and norms stay as they are. The noise is the same in every run.
    """
    key = named_key(root_key(0), "perturbed")

    @jax.jit
    def noisy(key: Array, leaf: Array) -> Array:
        wide = leaf.astype(jnp.float32)
        spread = jnp.std(wide, axis=(-2, -1), keepdims=True)
        return (wide + sigma * spread * jax.random.normal(key, leaf.shape)).astype(leaf.dtype)

    def changed(path: Any, leaf: Array) -> Array:
        name = jax.tree_util.keystr(path)
        stacked = name.startswith("['layers']")  # [layers, ...]
        return noisy(named_key(key, name), leaf) if leaf.ndim > 1 + stacked else leaf

    noised = jax.tree_util.tree_map_with_path(changed, forms.stacked(params))
    return forms.layers_apart(noised) if isinstance(params["layers"], tuple) else noised


def _parts(config: DecoderConfig, params: Any, chat: Chat) -> dict[str, str]:
    """Digests of everything that can change under one model's name.

    The weights' digest covers the values as loaded: it changes with them, but not with how they are
    split into files. It takes about a second for 250 million parameters, and the memory of one
    layer.
    """
    from subliminal_jax.models.hub.adapter_files import digest

    model = {name: value for name, value in config_dict(config).items() if name != "compute"}
    return {
        "weights": digest(params),
        "config": config_digest(model),
        "chat": chat.digest,
        "dtype": config.compute.dtype,
    }
