"""Module paths and state_dict keys from Caffe layer names."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

RESERVED = frozenset(
    """
    add_module apply bfloat16 blobs buffers children compile cpu cuda double dump_patches
    eval extra_repr float forward get_buffer get_extra_state get_parameter get_submodule
    caffe_graph half input_names ipu load_state_dict modules mtia named_buffers named_children
    named_modules named_parameters output_names parameters parts_of preprocessing
    register_backward_hook
    register_buffer register_forward_hook register_forward_pre_hook
    register_full_backward_hook register_full_backward_pre_hook
    register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module
    register_parameter register_state_dict_post_hook register_state_dict_pre_hook
    requires_grad_ set_extra_state set_submodule share_memory splits_batches state_dict to
    to_empty train
    training type xpu zero_grad layer
    in_channels out_channels kernel_size stride padding dilation transposed output_padding
    groups padding_mode in_features out_features num_features eps momentum affine
    track_running_stats inplace negative_slope p dim normalized_shape ceil_mode
    count_include_pad divisor_override return_indices
    """.split()
)
"""Names that a torch module has for itself; a layer of such a name gets ``_`` appended."""

MOST_MARKS = 8
"""Marks that tell names apart, before numbers do."""
MOST_PARTS = 32
"""Of a module's path: torch walks through modules by recursion, which has an end."""


def module_keys(names: Sequence[str], arrays: Sequence[Iterable[str]]) -> list[str]:
    """Return a unique dotted module path for each layer name: ``a/b`` becomes ``a.b``.

    ``arrays`` holds the names of each layer's learned arrays, which a path must not use:
    a layer ``conv1/weight`` below a layer ``conv1`` becomes ``conv1.weight_``.
    """
    keys: list[str] = []
    taken: set[str] = set()
    repeats: dict[str, int] = {}
    owned = {_clean(n): frozenset(a) for n, a in zip(names, arrays, strict=True)}
    for name in names:
        parts: list[str] = []
        for part in _clean(name).split("."):
            parent_arrays = owned.get(".".join(parts), frozenset())
            parts.append(part + "_" if part in parent_arrays else part)
        key = unused(".".join(parts), "_", taken, repeats)
        taken.add(key)
        keys.append(key)
    return keys


def unused(name: str, mark: str, taken: Container[str], repeats: dict[str, int]) -> str:
    """``name`` with as many ``mark`` as make it one that is not ``taken``.

    After some marks a number: a net may have thousands of layers of one name. ``repeats``
    holds how often each name was asked for before; give the same dict every time.
    """
    count = repeats.get(name, 0)
    while (unique := name + (mark * count if count < MOST_MARKS else f"{mark}{count}")) in taken:
        count += 1
    repeats[name] = count
    return unique


def _clean(name: str) -> str:
    parts = name.replace("/", ".").split(".")
    if len(parts) > MOST_PARTS:
        parts[MOST_PARTS - 1 :] = ["_".join(parts[MOST_PARTS - 1 :])]
    return ".".join(_clean_part(part) for part in parts)


def _clean_part(part: str) -> str:
    part = part or "_"
    return part + "_" if part in RESERVED or part.startswith("__") else part
