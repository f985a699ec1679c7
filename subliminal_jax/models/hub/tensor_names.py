"""Names and shapes of stored tensors, checked; names lose what wrappers added to them."""

import re
from collections.abc import Mapping, Sequence

from subliminal_jax.errors import InputError
from subliminal_jax.models.decoder.config import DecoderConfig
from subliminal_jax.models.hub.families import Family, Wrapper
from subliminal_jax.models.hub.model_files import ModelFiles, StoredTensor, shown

FLOATS = ("F64", "F32", "F16", "BF16")
"""The supported dtypes of stored tensors."""

_WRAPPERS = ("_orig_mod", "module", "_forward_module", "_fsdp_wrapped_module",
             "_checkpoint_wrapped_module")  # fmt: skip
"""Parts of names that `torch.compile` and torch's parallel wrappers add; they have no effect."""

_PEFT = ("base_model.model.", "lora_A", "lora_B", "base_layer", "modules_to_save")


def named(
    files: ModelFiles, stored: Mapping[str, StoredTensor], family: Family, tied: bool
) -> dict[str, StoredTensor]:
    """The tensors by their names in a language model saved on its own.

    Args:
        files: of the model.
        stored: the tensors by their names in the files.
        family: of the model.
        tied: whether embedding and unembedding are one.

    Raises:
        InputError: two tensors get one name, or one belongs to an adapter or not to the model.
    """
    plain: dict[str, StoredTensor] = {}
    for name, tensor in stored.items():
        if any(part in name for part in _PEFT):
            raise InputError(
                f"{tensor.file}: {shown(name)} is named by PEFT; merge the adapter into its model "
                "(merge_and_unload) and save that"
            )
        bare = ".".join(part for part in name.split(".") if part not in _WRAPPERS)
        if bare in plain:
            raise InputError(f"{tensor.file}: {shown(name)} and {shown(plain[bare].name)} are one")
        plain[bare] = tensor
    if family.wrapper is not None:
        plain = _unwrapped(plain, family.wrapper)
    plain = {name: it for name, it in plain.items() if not name.endswith(family.ignored)}
    if not any(name.startswith(family.prefix) for name in plain):
        plain = {
            name if name.startswith("lm_head.") else family.prefix + name: tensor
            for name, tensor in plain.items()
        }
    embedding, head = (family.source(name).name for name in ("embedding", "unembedding"))
    if tied and head in plain and embedding not in plain:
        plain[embedding] = plain.pop(head)
    return plain


def check_counts(
    files: ModelFiles, stored: Mapping[str, StoredTensor], family: Family, config: DecoderConfig
) -> None:
    """Compares the config's number of layers and shape of the embedding with those stored.

    It is cheap however large the config claims the model to be, so it comes before all else.

    Raises:
        InputError: they differ.
    """
    before, after = family.modules["layers/mlp/up"].split("{layer}")
    numbered = re.compile(re.escape(before) + r"(\d{1,9})\.")
    layers = {int(match[1]) for match in map(numbered.match, stored) if match}
    present = max(layers, default=-1) + 1
    if config.layers > present:
        raise InputError(
            f"{files.path}: the weights lack {within(family)}{before}{present}{after}.weight: "
            f"{files.settings} counts {config.layers:,} layers and {present:,} are stored"
        )
    embedding = stored.get(family.source("embedding").name)
    if embedding is not None and embedding.shape != (config.vocab, config.width):
        raise InputError(
            f"{embedding.file}: {embedding.name} is {list(embedding.shape)}; by {files.settings} "
            f"it is {[config.vocab, config.width]}"
        )


def check_tensors(
    files: ModelFiles,
    stored: Mapping[str, StoredTensor],
    family: Family,
    wanted: Mapping[str, Sequence[int]],
) -> None:
    """Checks that exactly the wanted tensors are stored, with the wanted shapes.

    Raises:
        InputError: one is missing, extra, misshapen, or of an unsupported dtype.
    """
    for name, shape in wanted.items():
        tensor = stored.get(name)
        if tensor is None:
            raise InputError(f"{files.path}: the weights lack {within(family)}{name}")
        if tensor.shape != tuple(shape):
            raise InputError(
                f"{tensor.file}: {tensor.name} is {list(tensor.shape)}; by {files.settings} it is "
                f"{list(shape)}"
            )
        if tensor.dtype not in FLOATS:
            raise InputError(
                f"{tensor.file}: {tensor.name} is {tensor.dtype}; supported are {', '.join(FLOATS)}"
            )
    for name in sorted(stored.keys() - wanted.keys()):
        raise not_part(stored[name], files.settings)


def not_part(tensor: StoredTensor, settings: str = "config.json") -> InputError:
    """The refusal of a tensor that the model does not have.

    Args:
        tensor: in the files.
        settings: where the architecture is stated.
    """
    why = ""
    if tensor.name.endswith(".bias"):
        why = f"; by {settings}, and in transformers, it has no such bias"
    return InputError(
        f"{tensor.file}: {shown(tensor.name)} is not part of the model in {settings}{why}"
    )


def within(family: Family) -> str:
    """The prefix of the names of the language model's tensors in the files."""
    return "" if family.wrapper is None else family.wrapper.prefix


def _unwrapped(stored: Mapping[str, StoredTensor], wrapper: Wrapper) -> dict[str, StoredTensor]:
    kept = {}
    for name, tensor in stored.items():
        if name.startswith(wrapper.prefix):
            kept[name.removeprefix(wrapper.prefix)] = tensor
        elif not name.startswith(wrapper.others):
            raise not_part(tensor)
    return kept
