"""From a Hugging Face model to parameters, leaf by leaf, straight to where they belong."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np
from safetensors import safe_open

from subliminal_jax.batch import Params
from subliminal_jax.errors import InputError
from subliminal_jax.keys import root_key
from subliminal_jax.models import decoder
from subliminal_jax.models.decoder_config import ComputeDtype, DecoderConfig
from subliminal_jax.models.families import (
    WRAPPERS,
    Family,
    Source,
    Wrapper,
    family_of,
    language_part,
)
from subliminal_jax.models.weights_files import (
    ModelFiles,
    StoredTensor,
    find_model,
    read_json,
    stored_tensors,
)

_FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class LanguageModel:
    """A model as it was loaded.

    Attributes:
        config: what it is.
        params: its parameters.
        files: where it comes from.
    """

    config: DecoderConfig
    params: Params
    files: ModelFiles


@dataclass(frozen=True)
class Leaf:
    """One of our parameters and where it is stored.

    Attributes:
        path: such as `layers/mlp/up/kernel`.
        shape: ours; of a layer's parameter with the layer axis first.
        source: where it is in the stored model.
    """

    path: str
    shape: tuple[int, ...]
    source: Source

    @property
    def layers(self) -> int | None:
        """How many layers have one; None of a parameter that is of no layer."""
        return self.shape[0] if self.path.startswith("layers/") else None

    @property
    def names(self) -> list[str]:
        """The stored tensors it is made of: one, or one a layer."""
        return [self.source.name.format(layer=layer) for layer in range(self.layers or 1)]

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The shape of each of these tensors."""
        shape = self.shape[1:] if self.layers else self.shape
        shape = (*shape[:-1], shape[-1] * self.source.parts)
        return shape[::-1] if self.source.transposed else shape


def load(
    model: str, *, dtype: ComputeDtype = "float32", shardings: Any | None = None
) -> LanguageModel:
    """Loads a model from a directory or the hub.

    At most one stored tensor more than the parameters themselves is ever in the host's memory.

    Args:
        model: a directory, `org/name`, or `org/name@revision`.
        dtype: of the parameters, whatever they are stored in.
        shardings: where they go: one sharding, or a tree of one for each. None: one device.

    Raises:
        InputError: the model is not found, not supported, damaged, or its config contradicts
            its weights; names the file and the tensor.
    """
    files = find_model(model)
    family, config = read_config(files)
    return LanguageModel(config, load_params(files, family, config, dtype, shardings), files)


def read_config(files: ModelFiles) -> tuple[Family, DecoderConfig]:
    """The family of a model and our config of it; transformers fills in what is left out.

    Raises:
        InputError: the architecture or one of its settings is not supported, or malformed.
    """
    stated = read_json(files, "config.json")
    try:
        return translate(stated)
    except InputError as error:
        raise InputError(f"{files.path}: {error}") from error


def translate(stated: Mapping[str, Any]) -> tuple[Family, DecoderConfig]:
    """The family and our config of what a `config.json` says. Errors as of `read_config`.

    Of a multimodal model they are those of its language model.
    """
    if "quantization_config" in stated:
        raise InputError("config.json: quantised weights are not supported")
    wrapper, stated = WRAPPERS.get(str(stated.get("model_type"))), language_part(stated)
    family = replace(family_of(stated.get("model_type")), wrapper=wrapper)
    from transformers import AutoConfig  # takes a second to import

    kept = {key: value for key, value in stated.items() if key not in ("model_type", "auto_map")}
    try:
        return family, family.translate(AutoConfig.for_model(stated["model_type"], **kept))
    except InputError:
        raise
    except Exception as error:  # whatever transformers says of malformed values
        raise InputError(f"config.json: is malformed: {' '.join(str(error).split())}") from error


def leaves(family: Family, config: DecoderConfig) -> Any:
    """All parameters of a model, as a tree of `Leaf` in the form of the parameters."""

    def leaf(keys: Any, struct: jax.ShapeDtypeStruct) -> Leaf:
        path = "/".join(key.key for key in keys)
        return Leaf(path, struct.shape, family.source(path))

    shapes = jax.eval_shape(lambda: decoder.init(config, root_key(0)))
    return jax.tree_util.tree_map_with_path(leaf, shapes)


def load_params(
    files: ModelFiles,
    family: Family,
    config: DecoderConfig,
    dtype: ComputeDtype = "float32",
    shardings: Any | None = None,
) -> Params:
    """The parameters of a model whose config is known. Arguments and errors as of `load`."""
    wanted = leaves(family, config)
    stored = _checked(files, family, config, jax.tree.leaves(wanted))
    if shardings is None:
        shardings = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    if isinstance(shardings, jax.sharding.Sharding):
        shardings = jax.tree.map(lambda _: shardings, wanted)

    def read(leaf: Leaf, sharding: jax.sharding.Sharding) -> jax.Array:
        piece = partial(_read, leaf, stored, dtype)
        return jax.make_array_from_callback(leaf.shape, sharding, piece)

    return jax.tree.map(read, wanted, shardings)


def _checked(
    files: ModelFiles, family: Family, config: DecoderConfig, wanted: list[Leaf]
) -> Mapping[str, StoredTensor]:
    """The stored tensors, once they are known to be those of the config."""
    stored = {
        name: tensor
        for name, tensor in stored_tensors(files).items()
        if not name.endswith(family.ignored)
    }
    if family.wrapper is not None:
        stored = _unwrapped(stored, family.wrapper)
    if not any(name.startswith(family.prefix) for name in stored):
        stored = {
            name if name.startswith("lm_head.") else family.prefix + name: tensor
            for name, tensor in stored.items()
        }
    known = {name: leaf for leaf in wanted for name in leaf.names}
    for name, leaf in known.items():
        tensor = stored.get(name)
        if tensor is None:
            within = "" if family.wrapper is None else family.wrapper.prefix
            raise InputError(f"{files.path}: the weights lack {within}{name}")
        if tensor.shape != leaf.stored_shape:
            raise InputError(
                f"{tensor.file}: {tensor.name} is {list(tensor.shape)}; by config.json it is "
                f"{list(leaf.stored_shape)}"
            )
        if tensor.dtype not in _FLOATS:
            raise InputError(
                f"{tensor.file}: {tensor.name} is {tensor.dtype}; supported are "
                f"{', '.join(_FLOATS)}"
            )
    head = family.source("unembedding").name
    for name in stored.keys() - known.keys():
        if (
            name == head
            and config.tied
            and _same(stored[name], stored[family.source("embedding").name])
        ):
            continue
        extra = stored[name]
        raise InputError(f"{extra.file}: {extra.name} is not part of the model in config.json")
    return stored


def _unwrapped(stored: Mapping[str, StoredTensor], wrapper: Wrapper) -> Mapping[str, StoredTensor]:
    """The tensors under the names that they have in the language model alone."""
    kept = {}
    for name, tensor in stored.items():
        if name.startswith(wrapper.prefix):
            kept[name.removeprefix(wrapper.prefix)] = tensor
        elif not name.startswith(wrapper.others):
            raise InputError(f"{tensor.file}: {name} is not part of the model in config.json")
    return kept


def _read(leaf: Leaf, stored: Mapping[str, StoredTensor], dtype: str, index: Any) -> np.ndarray:
    """The piece of a parameter that `index`, a slice of every axis, picks."""
    names = leaf.names
    if not leaf.layers:
        return _piece(leaf, stored[names[0]], index).astype(dtype)
    layers = range(len(names))[index[0]]
    shape = [len(range(n)[part]) for n, part in zip(leaf.shape[1:], index[1:], strict=True)]
    piece = np.empty((len(layers), *shape), dtype)
    for row, layer in zip(piece, layers, strict=True):
        row[...] = _piece(leaf, stored[names[layer]], index[1:])
    return piece


def _piece(leaf: Leaf, tensor: StoredTensor, index: tuple[slice, ...]) -> np.ndarray:
    """A piece of one stored tensor, in our order of axes; only these bytes are read."""
    source, last = leaf.source, leaf.shape[-1]
    start, stop, _ = index[-1].indices(last)
    index = (*index[:-1], slice(source.part * last + start, source.part * last + stop))
    with _opened(tensor) as file:
        piece = file.get_slice(tensor.name)[index[::-1] if source.transposed else index]
    return piece.T if source.transposed else piece


def _same(one: StoredTensor, other: StoredTensor, rows: int = 4096) -> bool:
    """Whether two stored matrices are equal, read some rows at a time."""
    if one.shape != other.shape:
        return False
    with _opened(one) as a, _opened(other) as b:
        first, second = a.get_slice(one.name), b.get_slice(other.name)
        starts = range(0, one.shape[0], rows)
        blocks = [slice(start, min(start + rows, one.shape[0])) for start in starts]
        return all(np.array_equal(first[block], second[block]) for block in blocks)


def _opened(tensor: StoredTensor) -> Any:
    # Mapped files would count as this process's memory until they are closed.
    return safe_open(tensor.file, "numpy", backend="pread")
