"""Checkpoints and downloads without room: the old file stays, and one line says what to do."""

import resource

import pytest
import torch

from caffe2torch.errors import ArtefactError
from squeezenet import download
from squeezenet.checkpoint import load_checkpoint, save_checkpoint
from squeezenet.download import fetch, read_manifest

CAUSE = r"cannot be written: File too large; .*raise the limit"


@pytest.fixture
def small_files():
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.usefixtures("small_files")
def test_checkpoint(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"step": 1, "model": torch.zeros(100)})
    with pytest.raises(ArtefactError, match=CAUSE):
        save_checkpoint(path, {"step": 2, "model": torch.zeros(100_000)})
    assert load_checkpoint(path)["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.usefixtures("small_files")
def test_download(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "download", lambda manifest: bytes(manifest.size))
    manifest = read_manifest("1.1")
    with pytest.raises(ArtefactError, match=CAUSE):
        fetch(manifest, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [f".{manifest.file}.lock"]
