"""Step 1, the reference: a model that can be asked in text, and one that is given."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from subliminal_jax.config import config_dict, config_digest
from subliminal_jax.data.tokens import TokenRow
from subliminal_jax.errors import InputError
from subliminal_jax.execution import hosts
from subliminal_jax.execution.protocol import Execution
from subliminal_jax.language.settings import ReferenceConfig
from subliminal_jax.language.training import devices
from subliminal_jax.language.training.trainable import Network
from subliminal_jax.models.decoder.config import Compute, DecoderConfig
from subliminal_jax.models.text.chat import Chat


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


def given_reference(
    model: str, settings: ReferenceConfig, execution: Execution, compute: Compute
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
    from subliminal_jax.models.hub.model_files import find_model
    from subliminal_jax.models.hub.weights import load_params, read_config

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
    from subliminal_jax.models.hub.adapter_files import digest

    model = {name: value for name, value in config_dict(config).items() if name != "compute"}
    return {
        "weights": digest(params),
        "config": config_digest(model),
        "chat": chat.digest,
        "dtype": config.compute.dtype,
    }
