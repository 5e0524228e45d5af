"""SqueezeNet in the form of Hugging Face's hub: a folder with config.json and model.safetensors."""

from __future__ import annotations

import os
from typing import Any

from caffe2torch.errors import NotInstalledError, WeightsError, first_line
from caffe2torch.preprocessing import Preprocessing
from squeezenet.model import SqueezeNet


def save_pretrained(model: SqueezeNet, folder: str | os.PathLike[str], **options: Any) -> None:
    """Write ``model`` to ``folder``; ``options`` are those of ``PyTorchModelHubMixin``.

    Raises NotInstalledError without huggingface_hub.
    """
    made = _hub_class()(**_config(model))
    made.load_state_dict(model.state_dict())
    made.save_pretrained(folder, **options)


def from_pretrained(source: str | os.PathLike[str], **options: Any) -> SqueezeNet:
    """The model of a folder, or of a repository of the hub, in test mode.

    ``options`` are those of ``PyTorchModelHubMixin``: ``revision``, ``cache_dir``, ``token``.

    Raises:
        NotInstalledError: huggingface_hub is not installed.
        WeightsError: there is no such folder or repository, or it holds no such model.
    """
    hub_class = _hub_class()
    try:
        found = hub_class.from_pretrained(os.fspath(source), **options)
    except Exception as error:  # Of the library's, of the network's, of a file's.
        raise WeightsError(
            f"{os.fspath(source)} cannot be loaded: {first_line(error)}. Give a folder that "
            "save_pretrained wrote, or the name of a repository with the files of one."
        ) from error
    config = {**_config(found), "preprocessing": found.preprocessing}
    model = SqueezeNet(**config)
    model.load_state_dict(found.state_dict())
    return model.eval()


def _config(model: SqueezeNet) -> dict[str, Any]:
    """What builds the model, as config.json has it."""
    return {
        "version": model.version,
        "bypass": model.bypass,
        "num_classes": model.num_classes,
        "dropout": model.drop9.p,
        "preprocessing": model.preprocessing.to_record(),
    }


def _hub_class() -> Any:
    """SqueezeNet with the methods of the hub's class, made of what JSON can hold."""
    try:
        from huggingface_hub import PyTorchModelHubMixin
    except ImportError as error:
        raise NotInstalledError(
            "from_pretrained and save_pretrained need huggingface_hub: pip install "
            "'caffe2torch[hub]'"
        ) from error

    # The hub's methods come first: SqueezeNet's of the same names call them.
    class HubSqueezeNet(  # type: ignore[call-arg]  # what its __init_subclass__ takes
        PyTorchModelHubMixin,  # type: ignore[misc]  # of a library without types here
        SqueezeNet,
        library_name="caffe2torch",
        tags=["image-classification", "squeezenet"],
    ):
        def __init__(
            self,
            version: str,
            bypass: str | None,
            num_classes: int,
            dropout: float,
            preprocessing: dict[str, Any],
        ) -> None:
            record = Preprocessing.from_record(preprocessing)
            assert record is not None
            SqueezeNet.__init__(
                self,
                version,
                bypass=bypass,
                num_classes=num_classes,
                dropout=dropout,
                preprocessing=record,
            )

    return HubSqueezeNet
