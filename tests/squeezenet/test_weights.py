from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

import caffe2torch
from caffe2torch.errors import Caffe2TorchError, WeightsError
from squeezenet import SqueezeNet, load_pretrained, weights
from squeezenet.download import DownloadError, Manifest, cache_folder, read_manifest
from squeezenet.weights import load_weights

ModelBytes = Callable[..., bytes]


class Server(ThreadingHTTPServer):
    """Answers every request with ``content``; with ``cut`` it says more than it sends."""

    content = b""
    status = 200
    cut = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/mirror/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content[: len(self.server.content) - self.server.cut])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        monkeypatch.setenv("CAFFE2TORCH_SQUEEZENET_URL_BASE", server.url)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = SqueezeNet("1.1")
    return {key: torch.randn_like(value) * 0.05 for key, value in model.state_dict().items()}


@pytest.fixture(scope="module")
def content(state: dict[str, torch.Tensor], caffemodel_bytes: ModelBytes) -> bytes:
    return caffemodel_bytes(state)


@pytest.fixture
def caffemodel(content: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "trained.caffemodel"
    path.write_bytes(content)
    return path


@pytest.fixture
def published(content: bytes, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """Makes the test's own net the published one."""
    manifest = dataclasses.replace(
        read_manifest("1.1"),
        size=len(content),
        checksums={"sha256": hashlib.sha256(content).hexdigest()},
    )
    monkeypatch.setattr(weights, "read_manifest", lambda version: manifest)
    return manifest


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "cache"


def assert_state(model: SqueezeNet, state: dict[str, torch.Tensor]) -> None:
    actual = model.state_dict()
    assert actual.keys() == state.keys()
    assert all(torch.equal(actual[key], state[key]) for key in state)


def stored(cache: Path) -> list[str]:
    return sorted(p.name for p in cache.iterdir() if not p.name.endswith(".lock"))


def test_from_caffemodel(caffemodel: Path, state: dict[str, torch.Tensor]) -> None:
    model = load_pretrained("1.1", caffemodel)
    assert_state(model, state)
    assert not model.training
    assert (model.version, model.bypass, model.num_classes) == ("1.1", None, 1000)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_from_artefact(
    suffix: str, caffemodel: Path, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = tmp_path / f"out{suffix}"
    caffe2torch.convert(caffemodel, path)
    model = load_pretrained("1.1", str(path))
    assert_state(model, state)
    assert not model.training


@pytest.mark.parametrize("bypass", ["simple", "complex"])
@pytest.mark.parametrize("suffix", [".caffemodel", ".safetensors"])
def test_file_decides_bypass_and_classes(
    bypass: str, suffix: str, caffemodel_bytes: ModelBytes, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    original = SqueezeNet("1.0", bypass=bypass, num_classes=3).eval()
    path = tmp_path / "net.caffemodel"
    path.write_bytes(
        caffemodel_bytes(original.state_dict(), version="1.0", bypass=bypass, num_classes=3)
    )
    if suffix == ".safetensors":
        path = Path(caffe2torch.convert(path, tmp_path / "net.safetensors"))
    model = load_pretrained("1.0", path)
    assert (model.bypass, model.num_classes) == (bypass, 3)
    x = torch.randn(2, 3, 67, 67)
    with torch.no_grad():
        assert torch.equal(model(x), original(x))


def test_other_num_classes_replace_conv10(caffemodel: Path, state: dict[str, torch.Tensor]) -> None:
    torch.manual_seed(2)
    model = load_pretrained("1.1", caffemodel, num_classes=7)
    assert model.num_classes == 7
    assert model.conv10.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert not model.conv10.bias.any()
    kept = {k: v for k, v in model.state_dict().items() if not k.startswith("conv10.")}
    assert len(kept) == len(state) - 2
    assert all(torch.equal(kept[key], state[key]) for key in kept)


def test_same_num_classes_keep_conv10(caffemodel: Path, state: dict[str, torch.Tensor]) -> None:
    assert_state(load_pretrained("1.1", caffemodel, num_classes=1000), state)


def test_wrong_version_names_the_right_one(caffemodel: Path) -> None:
    with pytest.raises(WeightsError, match=r"holds SqueezeNet 1\.1, not 1\.0: call load_pretr"):
        load_pretrained("1.0", caffemodel)
    assert load_weights(caffemodel).version == "1.1"


def test_unknown_version() -> None:
    with pytest.raises(Caffe2TorchError, match=r"no SqueezeNet version '2\.0'"):
        load_pretrained("2.0")


def test_another_net(caffemodel_bytes: ModelBytes, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.caffemodel"
    path.write_bytes(content.replace(b"Softmax", b"Sigmoid"))
    with pytest.raises(WeightsError, match=r"other\.caffemodel is not a SqueezeNet 1\.0 or 1\.1"):
        load_pretrained("1.1", path)


def test_another_artefact(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.caffemodel"
    path.write_bytes(content.replace(b"Softmax", b"Sigmoid"))
    out = caffe2torch.convert(path, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"other\.safetensors is not a SqueezeNet"):
        load_pretrained("1.1", out)


@pytest.mark.parametrize("name", ["none.caffemodel", "none.pt", "none.safetensors"])
def test_missing_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(Caffe2TorchError, match=name):
        load_pretrained("1.1", tmp_path / name)


def test_download_once(
    server: Server,
    published: Manifest,
    content: bytes,
    cache: Path,
    state: dict[str, torch.Tensor],
) -> None:
    server.content = content
    assert_state(load_pretrained("1.1", cache_dir=cache), state)
    assert server.requests == ["/mirror/squeezenet_v1.1.caffemodel"]
    assert stored(cache) == ["squeezenet_v1.1.caffemodel"]
    model = load_pretrained("1.1", cache_dir=cache)
    assert_state(model, state)
    assert not model.training
    assert len(server.requests) == 1


def test_downloads_at_the_same_time(
    server: Server,
    published: Manifest,
    content: bytes,
    cache: Path,
    state: dict[str, torch.Tensor],
) -> None:
    server.content = content
    with ThreadPoolExecutor(4) as pool:
        models = list(pool.map(lambda _: load_pretrained("1.1", cache_dir=cache), range(4)))
    for model in models:
        assert_state(model, state)
    assert len(server.requests) == 1


@pytest.mark.parametrize("damage", ["cut", "bit", "empty"])
def test_damaged_cache_is_fetched_anew(
    damage: str,
    server: Server,
    published: Manifest,
    content: bytes,
    cache: Path,
    state: dict[str, torch.Tensor],
) -> None:
    server.content = content
    load_pretrained("1.1", cache_dir=cache)
    file = cache / "squeezenet_v1.1.caffemodel"
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    file.write_bytes({"cut": content[:middle], "bit": flipped, "empty": b""}[damage])
    with pytest.warns(UserWarning, match=r"squeezenet_v1\.1\.caffemodel is fetched anew: it"):
        assert_state(load_pretrained("1.1", cache_dir=cache), state)
    assert file.read_bytes() == content
    assert len(server.requests) == 2


def test_full_cache_needs_no_lock_and_no_server(
    published: Manifest, content: bytes, cache: Path, state: dict[str, torch.Tensor]
) -> None:
    cache.mkdir(parents=True)
    (cache / "squeezenet_v1.1.caffemodel").write_bytes(content)
    assert_state(load_pretrained("1.1", cache_dir=cache), state)
    assert [path.name for path in cache.iterdir()] == ["squeezenet_v1.1.caffemodel"]


def test_cached_file_that_cannot_be_read(published: Manifest, cache: Path) -> None:
    (cache / "squeezenet_v1.1.caffemodel").mkdir(parents=True)
    with pytest.raises(DownloadError, match=r"cannot use the cache folder .*Is a directory"):
        load_pretrained("1.1", cache_dir=cache)


BY_HAND = (
    r"Nothing was stored\. Try again, or fetch the file by hand from\n"
    r"  https://github\.com/forresti/SqueezeNet/raw/.*/squeezenet_v1\.1\.caffemodel\n"
    r".* bytes, sha256 .*\n"
    r".*load_pretrained\('1\.1', weights='squeezenet_v1\.1\.caffemodel'\)"
)


def test_truncated(server: Server, published: Manifest, content: bytes, cache: Path) -> None:
    server.content, server.cut = content, 1000
    with pytest.raises(DownloadError, match=r"truncated: .* bytes\n" + BY_HAND):
        load_pretrained("1.1", cache_dir=cache)
    assert stored(cache) == []


def test_tampered(server: Server, published: Manifest, content: bytes, cache: Path) -> None:
    server.content = content[:-9] + bytes(9)
    with pytest.raises(DownloadError, match=r"sha256 is .* tampered with\n" + BY_HAND):
        load_pretrained("1.1", cache_dir=cache)
    assert stored(cache) == []


def test_too_long(server: Server, published: Manifest, content: bytes, cache: Path) -> None:
    server.content = content + b"more"
    with pytest.raises(DownloadError, match=r"longer than the .* bytes it should have\n"):
        load_pretrained("1.1", cache_dir=cache)
    assert stored(cache) == []


def test_server_error(server: Server, published: Manifest, cache: Path) -> None:
    server.status, server.content = 404, b"<html>gone</html>"
    with pytest.raises(DownloadError, match=r"cannot download http://127.*404.*\n" + BY_HAND):
        load_pretrained("1.1", cache_dir=cache)
    assert stored(cache) == []


def test_offline(
    published: Manifest, cache: Path, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    with Server() as closed:
        url = closed.url
    monkeypatch.setenv("CAFFE2TORCH_SQUEEZENET_URL_BASE", url)
    with pytest.raises(DownloadError, match=r"cannot download .*refused.*\n" + BY_HAND):
        load_pretrained("1.1", cache_dir=cache)
    assert stored(cache) == []


def test_bad_mirror(published: Manifest, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAFFE2TORCH_SQUEEZENET_URL_BASE", "mirror")
    with pytest.raises(DownloadError, match="unknown url type"):
        load_pretrained("1.1", cache_dir=cache)


def test_cache_that_cannot_be_written(published: Manifest, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(DownloadError, match=r"cannot use the cache folder .*CAFFE2TORCH_CACHE"):
        load_pretrained("1.1", cache_dir=file / "cache")


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CAFFE2TORCH_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "caffe2torch"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "caffe2torch"
    monkeypatch.setenv("CAFFE2TORCH_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    assert cache_folder(tmp_path / "argument") == tmp_path / "argument"
