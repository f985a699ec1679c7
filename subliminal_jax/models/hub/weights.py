"""Loading the parameters of a given model, leaf by leaf, straight to their devices."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from subliminal_jax.batch import Params
from subliminal_jax.config import Precision
from subliminal_jax.errors import InputError
from subliminal_jax.models.decoder import decoder
from subliminal_jax.models.decoder.config import DecoderConfig
from subliminal_jax.models.hub.config_json import translate
from subliminal_jax.models.hub.families import Family, Source
from subliminal_jax.models.hub.gguf.tensors import GgufModel, in_gguf
from subliminal_jax.models.hub.model_files import (
    ModelFiles,
    StoredTensor,
    check_no_adapter,
    find_model,
    read_json,
    stored_tensors,
)
from subliminal_jax.models.hub.tensor_names import check_counts, check_tensors, named


@dataclass(frozen=True)
class LanguageModel:
    """A loaded model.

    Attributes:
        config: its configuration.
        params: its parameters.
        files: the files that it was loaded from.
    """

    config: DecoderConfig
    params: Params
    files: ModelFiles


@dataclass(frozen=True)
class Leaf:
    """One of our parameters and where it is stored.

    Attributes:
        path: such as `layers/mlp/up/kernel`.
        shape: ours, with the layer axis first if it belongs to the layers.
        source: where it is in the stored model.
    """

    path: str
    shape: tuple[int, ...]
    source: Source

    @property
    def layers(self) -> int | None:
        """Number of layers; None for a parameter outside the layers."""
        return self.shape[0] if self.path.startswith("layers/") else None

    @property
    def names(self) -> list[str]:
        """The stored tensors that it is made of: one, or one per layer."""
        return [self.source.name.format(layer=layer) for layer in range(self.layers or 1)]

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The shape of each of these tensors."""
        shape = self.shape[1:] if self.layers else self.shape
        shape = (*shape[:-1], shape[-1] * self.source.parts)
        return shape[::-1] if self.source.transposed else shape


def load(
    model: str, *, dtype: Precision = "float32", shardings: Any | None = None
) -> LanguageModel:
    """Loads a model from a directory, a GGUF file or the hub.

    Beside the parameters, at most one of them is in the host's memory at a time.

    Args:
        model: as of `find_model`.
        dtype: of the parameters, whatever they are stored in.
        shardings: one for all parameters, or a tree of them. None: one device.

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
        InputError: the architecture or one of its settings is not supported, or malformed, or
            the directory also holds an adapter.
    """
    stated = stated_config(files)
    try:
        return translate(stated)
    except InputError as error:
        where = f"{files.path}: {'its metadata as a ' if files.gguf else ''}"
        raise InputError(f"{where}{error}") from error


def stated_config(files: ModelFiles) -> Mapping[str, Any]:
    """The `config.json` of a model, or what it would be for a GGUF model.

    Raises:
        InputError: it is missing, malformed or not supported, or the directory also holds an
            adapter.
    """
    if files.gguf:
        return GgufModel(files).stated
    check_no_adapter(files)
    return read_json(files, "config.json")


def leaves(family: Family, config: DecoderConfig) -> Any:
    """All parameters of a model, as a tree of `Leaf` in the form of the parameters."""

    def leaf(keys: Any, struct: jax.ShapeDtypeStruct) -> Leaf:
        path = "/".join(key.key for key in keys)
        return Leaf(path, struct.shape, family.source(path))

    return jax.tree_util.tree_map_with_path(leaf, decoder.shapes(config))


def load_params(
    files: ModelFiles,
    family: Family,
    config: DecoderConfig,
    dtype: Precision = "float32",
    shardings: Any | None = None,
) -> Params:
    """The parameters of a model whose config is known. Arguments and errors as of `load`."""
    tensors: Mapping[str, StoredTensor]
    if files.gguf:
        family, tensors = in_gguf(family), GgufModel(files).tensors
    else:
        tensors = stored_tensors(files)
    stored = named(files, tensors, family, config.tied)
    check_counts(files, stored, family, config)
    wanted = leaves(family, config)
    stored = _checked(files, stored, family, config, jax.tree.leaves(wanted))
    if shardings is None:
        shardings = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    if isinstance(shardings, jax.sharding.Sharding):
        shardings = jax.tree.map(lambda _: shardings, wanted)

    def read(leaf: Leaf, sharding: jax.sharding.Sharding) -> jax.Array:
        piece = partial(_read, leaf, stored, dtype)
        return jax.make_array_from_callback(leaf.shape, sharding, piece)

    return jax.tree.map(read, wanted, shardings)


def _checked(
    files: ModelFiles,
    stored: dict[str, StoredTensor],
    family: Family,
    config: DecoderConfig,
    wanted: list[Leaf],
) -> Mapping[str, StoredTensor]:
    """The stored tensors, checked against the config."""
    head, embedding = (family.source(name).name for name in ("unembedding", "embedding"))
    if config.tied and head in stored:
        if not _same(stored[head], stored[embedding]):
            raise InputError(
                f"{stored[head].file}: {stored[head].name} differs from {stored[embedding].name}, "
                "but tie_word_embeddings in config.json makes them one; set it to false, or remove "
                f"{stored[head].name}"
            )
        stored = {name: tensor for name, tensor in stored.items() if name != head}
    shapes = {name: leaf.stored_shape for leaf in wanted for name in leaf.names}
    check_tensors(files, stored, family, shapes)
    return stored


def _read(leaf: Leaf, stored: Mapping[str, StoredTensor], dtype: str, index: Any) -> np.ndarray:
    """The piece of a parameter that `index`, a slice of every axis, selects."""
    names = leaf.names
    if not leaf.layers:
        return _piece(leaf, stored[names[0]], dtype, index).astype(dtype, copy=False)
    layers = range(len(names))[index[0]]
    shape = [len(range(n)[part]) for n, part in zip(leaf.shape[1:], index[1:], strict=True)]
    piece = np.empty((len(layers), *shape), dtype)
    for row, layer in zip(piece, layers, strict=True):
        row[...] = _piece(leaf, stored[names[layer]], dtype, index[1:])
    return piece


def _piece(leaf: Leaf, tensor: StoredTensor, dtype: str, index: tuple[slice, ...]) -> np.ndarray:
    """A piece of one stored tensor, in our order of axes.

    Raises:
        InputError: it holds NaN, or a number that is not finite as `dtype`.
    """
    source, last = leaf.source, leaf.shape[-1]
    start, stop, _ = index[-1].indices(last)
    index = (*index[:-1], slice(source.part * last + start, source.part * last + stop))
    piece = tensor.read(index[::-1] if source.transposed else index, dtype)
    if not _is_finite(piece, dtype):
        raise InputError(
            f"{tensor.file}: {tensor.name} holds NaN, or numbers that are infinite as {dtype}; the "
            "model diverged or the file is damaged"
        )
    return piece.T if source.transposed else piece


def _is_finite(piece: np.ndarray, dtype: str) -> bool:
    """Whether all numbers are finite in `dtype`, without a temporary of the size of `piece`."""
    if not piece.size:
        return True
    if piece.dtype.itemsize == 2 and piece.dtype != np.float16:  # slow to compare: look at the bits
        exponent, rows = np.uint16(0x7F80), max(1, 2**20 // max(1, piece[:1].size))
        bits = np.ascontiguousarray(piece).view(np.uint16)
        blocks = (bits[start : start + rows] for start in range(0, len(bits), rows))
        return not any(bool(np.any((block & exponent) == exponent)) for block in blocks)
    most = float(jnp.finfo(dtype).max)
    with np.errstate(invalid="ignore"):
        return bool(-most <= float(piece.min()) and float(piece.max()) <= most)  # false for NaN


def _same(one: StoredTensor, other: StoredTensor, rows: int = 4096) -> bool:
    """Whether two stored matrices are equal, read some rows at a time."""
    if one.shape != other.shape:
        return False
    starts = range(0, one.shape[0], rows)
    blocks = [(slice(start, min(start + rows, one.shape[0])), slice(None)) for start in starts]
    return all(
        np.array_equal(one.read(block, one.dtype), other.read(block, other.dtype))
        for block in blocks
    )
