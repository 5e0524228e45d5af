"""A net that ends at blobs of the caller's choice."""

from __future__ import annotations

from difflib import get_close_matches

from caffe2torch.errors import NetError
from caffe2torch.io.schema import replace_all
from caffe2torch.passes.draft import Draft

MAX_NAMES = 5
"""Blobs that an error offers for one that the net does not have."""


def keep_until(draft: Draft) -> None:
    """Keep the layers that the blobs ``Options.outputs`` need, and drop the others.

    What is dropped may be of any type and have any parameters. Of a blob that is changed in
    place the last version counts. Raises NetError for a blob that no layer of the net writes.
    Before, until ``c``::

        layer { type: "Input" top: "x" }
        layer { type: "Convolution" bottom: "x" top: "c" }
        layer { type: "ReLU" bottom: "c" top: "c" }
        layer { type: "Unheard" bottom: "c" top: "y" }

    After: the same without the layer that makes ``y``.
    """
    if not draft.options.outputs:
        return
    layers = list(draft.net.layer)
    made = {str(top) for layer in layers for top in layer.top}
    for blob in draft.options.outputs:
        if blob not in made:
            near = get_close_matches(blob, made, MAX_NAMES, cutoff=0) or sorted(made)[:MAX_NAMES]
            raise NetError(
                f"no layer of the net makes the blob {blob!r}; blobs with a similar name are "
                f"{', '.join(map(repr, near))}."
            )
    needed, kept = set(draft.options.outputs), []
    for layer in reversed(layers):
        if not needed.isdisjoint(layer.top):
            needed.difference_update(layer.top)
            needed.update(layer.bottom)
            kept.append(layer)
        else:
            draft.left_out.add(layer.name)
    replace_all(draft.net.layer, reversed(kept))
