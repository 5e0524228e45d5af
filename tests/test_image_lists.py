"""Lists and class folders of ImageNet's size: what is read, how fast, in how much memory."""

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from caffe2torch import images
from caffe2torch.errors import ReadError
from caffe2torch.images import Names, find_images, read_columns, read_list, scan_folders

LINES = 1_300_000
SECONDS = 2.5
"""Of processor time; the target for a list of ImageNet's size."""
MEGABYTES = 150
OWN_MEGABYTES = 20
"""Of a process that was forked and has read a part of the list: it shares the list's 65 MB."""


def plain_lists(count: int, seed: int) -> list[str]:
    """Lines with every kind of space, number and emptiness."""
    rng = np.random.default_rng(seed)
    pieces = ["a", "é", " ", "\t", "  ", "7", "-1", "x.jpg", "/", "\r", " 0", " 12", "1234567890"]
    weights = np.array([4, 1, 3, 1, 1, 2, 1, 4, 1, 1, 4, 4, 0.2])
    return [
        "".join(rng.choice(pieces, size=rng.integers(0, 7), p=weights / weights.sum()))
        for _ in range(count)
    ]


@pytest.mark.parametrize("piece", [1, 50, 1 << 20])
def test_lines_mean_what_a_regular_expression_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(images, "_PIECE", piece)
    form = re.compile(r"\s*(\S[^\0]*?)\s+([0-9]{1,9})\s*")
    lines = plain_lists(3000, seed=1)
    good = [(n, form.fullmatch(line)) for n, line in enumerate(lines, 1)]
    kept = [
        line if match or not line.strip() else ""
        for line, (_, match) in zip(lines, good, strict=True)
    ]
    path = tmp_path / "list.txt"
    path.write_text("\n".join(kept), newline="")
    found = [(str(s.path), s.label, s.line) for s in read_list(path, Path("root"))]
    expected = [
        (f"{Path('root', match[1])}", int(match[2]), f"{path}:{n}") for n, match in good if match
    ]
    assert len(expected) > 300
    assert found == expected
    # And each of the other lines is refused by its number.
    bad = [line for line, (_, match) in zip(lines, good, strict=True) if line.strip() and not match]
    for line in bad[:60]:
        path.write_text(f"\n fine.jpg 3 \n{line}\nalso 1", newline="")
        with pytest.raises(ReadError, match=r"list.txt:3: expected a path, a space and a label"):
            read_list(path, tmp_path)
        path.write_text(f"{line}\nalso 1", newline="")
        with pytest.raises(ReadError, match=r"list.txt:1: expected a path"):
            read_list(path, tmp_path)


def test_signed_labels_are_those_of_32_bits(tmp_path: Path) -> None:
    """As Caffe's ImageData layer has them: ``read_columns`` with and without the sign."""
    fine = {"-1": -1, "+7": 7, "0012": 12, "-2147483648": -(2**31), "2147483647": 2**31 - 1}
    path = tmp_path / "list.txt"
    path.write_text("".join(f"a-1 {label}.jpg {label}\n" for label in fine))
    names, labels, lines = read_columns(path, signed=True)
    assert labels.tolist() == list(fine.values())
    assert lines.tolist() == [1, 2, 3, 4, 5]
    assert [names[n].decode() for n in range(5)] == [f"a-1 {label}.jpg" for label in fine]
    for label in ("2147483648", "-2147483649", "9" * 11, "9" * 50, "--1", "+", "1-", "a-1"):
        path.write_text(f"x.jpg 1\ny.jpg {label}\n")
        with pytest.raises(ReadError, match=r"list.txt:2: .* and an integer label, found 'y.jpg"):
            read_columns(path, signed=True)
    path.write_text("-1\nx.jpg 1\n")
    with pytest.raises(ReadError, match=r"list.txt:1: expected a path"):
        read_columns(path, signed=True)


def test_bytes_that_are_no_text_are_named_by_line(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"a.jpg 1\n\nb\xff.jpg 2\n")
    with pytest.raises(ReadError, match=r"list.txt:3: is not UTF-8 text; save the list in UTF-8"):
        read_list(tmp_path / "list.txt", tmp_path)


def test_a_list_behaves_as_a_sequence(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.jpg 4\n\nb c.jpg 999999999\nd.jpg 0\n")
    samples = read_list(tmp_path / "list.txt", tmp_path)
    assert [sample.label for sample in samples[1:]] == [999999999, 0]
    assert samples[-1] == samples[2] == list(samples)[-1]
    assert samples[-1].line == f"{tmp_path / 'list.txt'}:4"
    with pytest.raises(IndexError):
        samples[3]
    assert list(pickle.loads(pickle.dumps(samples))) == list(samples)


def test_folders_are_read_in_the_order_of_paths(tmp_path: Path) -> None:
    names = ["b/z.JPG", "b/a/2.png", "b/a-1.png", "b/a/1.png", "a é/x.gif", "b/.jpg", "b/no.txt"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "link").symlink_to(tmp_path / "a é")
    samples, classes = scan_folders(tmp_path)
    expected = sorted(p for p in tmp_path.rglob("*.*") if p.suffix.lower() in images.SUFFIXES)
    assert [sample.path for sample in samples] == expected == find_images(tmp_path)
    assert [sample.label for sample in samples] == [0, 1, 1, 1, 1]
    assert classes == ["a é", "b"]


def test_names_are_gathered_without_loss() -> None:
    names = [b"", b"abc", "é".encode(), b"", b"\0x"]
    gathered = Names.gather(iter(names))
    assert [gathered[n] for n in range(len(gathered))] == names
    assert len(Names.gather([])) == 0


READ = """
import os, re, sys, time
from pathlib import Path
from caffe2torch.images import read_list
def peak(): return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
before, start = peak(), time.process_time()
samples = read_list(Path(sys.argv[1]), Path())
print(time.process_time() - start, (peak() - before) / 1024, len(samples), samples.labels[-1])
sys.stdout.flush()
if not os.fork():
    for index in range(0, len(samples), 7):
        samples[index]
    own = re.search(r"Private_Dirty:\\s*(\\d+)", Path("/proc/self/smaps_rollup").read_text())
    print(int(own[1]) / 1024)
else:
    os.wait()
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc"
)
def test_a_list_of_imagenets_size_is_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    with path.open("w") as file:
        for label in range(LINES // 1300):
            folder = f"n{10000000 + label * 17}"
            file.writelines(f"{folder}/{folder}_{n * 41}.JPEG {label}\n" for n in range(1300))
    done = subprocess.run(
        [sys.executable, "-c", READ, path],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    seconds, megabytes, count, last, own = map(float, done.stdout.split())
    assert (count, last) == (LINES, LINES // 1300 - 1)
    assert seconds < SECONDS
    assert megabytes < MEGABYTES
    assert own < OWN_MEGABYTES
