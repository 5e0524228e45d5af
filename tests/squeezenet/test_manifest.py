from __future__ import annotations

import dataclasses
import hashlib
import re

import pytest

from caffe2torch.errors import Caffe2TorchError
from caffe2torch.preprocessing import Preprocessing
from squeezenet import SqueezeNet
from squeezenet.download import read_manifest
from squeezenet.preprocess import PREPROCESSING


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_manifest_agrees_with_the_model(version: str) -> None:
    manifest = read_manifest(version)
    model = SqueezeNet(version)
    assert (manifest.name, manifest.version) == ("squeezenet", version)
    assert manifest.parameters == sum(p.numel() for p in model.parameters())
    assert manifest.num_classes == model.num_classes
    assert Preprocessing.from_record(manifest.preprocessing) == PREPROCESSING
    assert manifest.url.endswith(f"SqueezeNet_v{version}/{manifest.file}")
    assert re.fullmatch("[0-9a-f]{40}", manifest.checksums["git_blob"])
    # Four bytes a weight, and the net's description.
    assert 4 * manifest.parameters < manifest.size < 4 * manifest.parameters + 20_000


def test_unknown_version() -> None:
    with pytest.raises(Caffe2TorchError, match=r"no SqueezeNet version '1\.2'"):
        read_manifest("1.2")


@pytest.mark.parametrize("kind", ["sha256", "sha384", "git_blob"])
def test_find_fault(kind: str) -> None:
    data = b"the published file"
    digest = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "sha384": hashlib.sha384(data).hexdigest(),
        # What `git hash-object` prints for these bytes.
        "git_blob": "74eb5e68cffc26e990d1433a3276c4a9da46396d",
    }[kind]
    manifest = dataclasses.replace(read_manifest("1.1"), size=18, checksums={kind: digest})
    assert manifest.find_fault(data) is None
    assert manifest.find_fault(data[:-1]) == "it is truncated: 17 of 18 bytes"
    assert "longer than the 18 bytes" in (manifest.find_fault(data + b"!") or "")
    fault = manifest.find_fault(b"the tampered file!") or ""
    assert f"its {kind} is " in fault
    assert f"not {digest}: it is damaged or was tampered with" in fault
