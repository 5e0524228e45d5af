"""SqueezeNet in the form of Hugging Face's hub, in local folders."""

from __future__ import annotations

import json
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from caffe2torch.errors import Caffe2TorchError, WeightsError
from squeezenet.model import SqueezeNet
from squeezenet.preprocess import PREPROCESSING

NET = SqueezeNet(
    "1.0",
    bypass="complex",
    num_classes=7,
    dropout=0.25,
    preprocessing=replace(PREPROCESSING, mean=(1.0, 2.0, 3.5), crop_size=99),
)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_model_comes_back_as_it_was(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="needs the extra hub")
    NET.save_pretrained(tmp_path / "net")
    assert {"config.json", "model.safetensors"} <= {p.name for p in (tmp_path / "net").iterdir()}
    again = SqueezeNet.from_pretrained(tmp_path / "net")
    assert type(again) is SqueezeNet
    assert again.architecture == NET.architecture
    assert again.preprocessing == NET.preprocessing
    assert again.drop9.p == 0.25
    assert not again.training
    stored = load_file(tmp_path / "net" / "model.safetensors")
    for key, array in NET.state_dict().items():
        assert torch.equal(again.state_dict()[key], array)
        assert torch.equal(stored[key], array)
    assert json.loads((tmp_path / "net" / "config.json").read_text())["version"] == "1.0"
    pickle.loads(pickle.dumps(again))


def test_what_is_no_such_folder_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="needs the extra hub")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"cannot be loaded: .*save_pretrained wrote"):
        SqueezeNet.from_pretrained(tmp_path, local_files_only=True)


def test_without_the_library_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (NET.save_pretrained, SqueezeNet.from_pretrained):
        with pytest.raises(Caffe2TorchError, match=r"pip install 'caffe2torch\[hub\]'"):
            call(tmp_path / "net")
