"""Files that are either whole or not there."""

import errno
import fcntl
import os
import resource
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from caffe2torch.errors import ArtefactError
from caffe2torch.io.atomic import atomic_group, atomic_write


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_replaces_the_file_only_at_the_end(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def write_and_raise(path, error):
    with atomic_write(path) as file:
        file.write(b"new")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_error_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with pytest.raises(error):
        write_and_raise(path, error)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("exists", [True, False])
def test_writes_through_links(tmp_path, exists):
    if exists:
        (tmp_path / "f").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "f")
    (tmp_path / "link2").symlink_to("link")
    with atomic_write(tmp_path / "link2") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert not (tmp_path / "f").is_symlink()
    assert (tmp_path / "f").read_bytes() == b"new"
    assert names(tmp_path) == ["f", "link", "link2"]


def refused(path, cause):
    with pytest.raises(ArtefactError, match=cause), atomic_write(path) as file:
        file.write(b"new")


def test_link_to_itself(tmp_path):
    (tmp_path / "f").symlink_to("f")
    refused(tmp_path / "f", r"f: cannot be written: Too many levels of symbolic links")


def test_folder_that_does_not_exist(tmp_path):
    refused(tmp_path / "none" / "f", "none/f: cannot be written: No such file or directory")


def test_path_that_is_a_folder(tmp_path):
    (tmp_path / "f").mkdir()
    refused(tmp_path / "f", "f: cannot be written: Is a directory")
    assert names(tmp_path) == ["f"]


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("umask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_new_file_has_the_permissions_of_the_umask(tmp_path, umask, expected):
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "f") as file:
            file.write(b"new")
    finally:
        os.umask(before)
    assert mode(tmp_path / "f") == expected


@pytest.mark.parametrize("permissions", [0o600, 0o666, 0o640, 0o755])
def test_file_keeps_its_permissions_even_while_it_is_written(tmp_path, permissions):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    path.chmod(permissions)
    with atomic_write(path) as file:
        file.write(b"new")
        (part,) = (p for p in tmp_path.iterdir() if p != path)
        assert mode(part) == permissions
    assert mode(path) == permissions
    assert path.read_bytes() == b"new"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_file_keeps_its_owner(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    os.chown(path, 1234, 2345)
    with atomic_write(path) as file:
        file.write(b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 2345)


AS_NOBODY = """
import os, sys
from caffe2torch.errors import ArtefactError
from caffe2torch.io.atomic import atomic_write
os.setgid(65534), os.setuid(65534)
try:
    with atomic_write(sys.argv[1]) as file:
        file.write(b"new")
except ArtefactError as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_protected_file_is_not_replaced():
    # The folder may be written, so a rename alone would replace the file. pytest's own
    # temporary folders are closed to other users.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        path = folder / "f"
        path.write_bytes(b"old")
        path.chmod(0o444)
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, path], capture_output=True, text=True, check=True
        )
        assert "f: cannot be written: Permission denied" in done.stdout
        assert path.read_bytes() == b"old"
        assert names(folder) == ["f"]


def test_long_name(tmp_path):
    path = tmp_path / ("é" * 127)
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_device_and_pipe_are_written_directly(tmp_path):
    with atomic_write("/dev/null") as file:
        file.write(b"new")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    code = (
        "from caffe2torch.io.atomic import atomic_write\n"
        "with atomic_write('/dev/stdout') as file: file.write(b'new')"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).stdout == b"new"
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert (tmp_path / "out").read_bytes() == b"new"


# Left-overs of killed processes.


def abandoned(folder, name="f", kind="part"):
    path = folder / f"{name}.0123abcd.caffe2torch-{kind}"
    path.write_bytes(kind.encode())
    return path


def test_left_overs_are_removed_whatever_their_destination(tmp_path):
    abandoned(tmp_path)
    abandoned(tmp_path, "other.onnx")
    abandoned(tmp_path, "new\nline")
    with atomic_write(tmp_path / "f") as file:
        file.write(b"new")
        # Before the new one is written: they may be what fills the disk.
        assert len(names(tmp_path)) == 1
    assert names(tmp_path) == ["f"]


def test_temporary_file_of_a_live_writer_is_left_alone(tmp_path):
    with atomic_write(tmp_path / "f") as first:
        first.write(b"first")
        with atomic_write(tmp_path / "f") as second, atomic_write(tmp_path / "g") as third:
            second.write(b"second")
            third.write(b"third")
        assert (tmp_path / "f").read_bytes() == b"second"
    assert (tmp_path / "f").read_bytes() == b"first"
    assert names(tmp_path) == ["f", "g"]


def test_files_of_others_are_left_alone(tmp_path):
    others = {
        "f.part",
        "f.0123abcd.part",
        "f.caffe2torch-part",
        "f.0123ABCD.caffe2torch-part",
        "f.0123abcd.caffe2torch-part.bak",
        ".0123abcd.caffe2torch-part",
    }
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / "folder.0123abcd.caffe2torch-part").mkdir()
    (tmp_path / "link.0123abcd.caffe2torch-part").symlink_to("f.part")
    with atomic_write(tmp_path / "f") as file:
        file.write(b"new")
    assert {*others, "f"} == set(names(tmp_path)) - {
        "folder.0123abcd.caffe2torch-part",
        "link.0123abcd.caffe2torch-part",
    }
    assert len(names(tmp_path)) == len(others) + 3


def test_without_locks_nothing_is_taken_for_abandoned(tmp_path, monkeypatch):
    def flock(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    abandoned(tmp_path)
    abandoned(tmp_path, "g", "old-main")
    monkeypatch.setattr(fcntl, "flock", flock)
    with atomic_write(tmp_path / "f") as file:
        file.write(b"new")
    assert len(names(tmp_path)) == 3


def test_cleaned_by_another_between_creation_and_lock(tmp_path, monkeypatch):
    lock = fcntl.flock
    removed = []

    def flock(descriptor, operation):
        if not removed:
            (part,) = tmp_path.iterdir()
            removed.append(part)
            part.unlink()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with atomic_write(tmp_path / "f") as file:
        file.write(b"new")
    assert removed
    assert (tmp_path / "f").read_bytes() == b"new"
    assert names(tmp_path) == ["f"]


# What the file system refuses.


@pytest.fixture
def small_files():
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def write_sizes(path, sizes):
    with atomic_write(path) as file:
        for size in sizes:
            file.write(bytes(size))


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("sizes", [[2000], [999, 2], [100_000]])
def test_file_too_large(tmp_path, sizes):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with pytest.raises(ArtefactError) as caught:
        write_sizes(path, sizes)
    assert str(caught.value) == (
        f"{path}: cannot be written: File too large; the file that was there is unchanged; raise "
        "the limit on the size of a file (ulimit -f), or choose a file system that holds larger "
        "files"
    )
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["f"]


def write_and_hide(path, error):
    with atomic_write(path) as file:
        try:
            file.write(bytes(100_000))
        except OSError as cause:
            if error:
                raise error("unexpected pos 64 vs 0") from cause


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("error", [None, RuntimeError])
def test_error_that_a_library_hides(tmp_path, error):
    with pytest.raises(ArtefactError, match="f: cannot be written: File too large; raise"):
        write_and_hide(tmp_path / "f", error)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOSPC, "free some space there, or choose another folder"),
        (errno.EDQUOT, "free some of your quota, or choose another folder"),
    ],
)
def test_full_disk_found_at_the_end(tmp_path, monkeypatch, code, remedy):
    def fsync(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)
    refused(tmp_path / "f", f"f: cannot be written: {os.strerror(code)}; {remedy}$")
    assert names(tmp_path) == []


def test_full_disk_that_a_network_file_system_tells_of_at_close(tmp_path, monkeypatch):
    dup, close = os.dup, os.close
    copies = []

    def failing_close(descriptor):
        close(descriptor)
        if descriptor in copies:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def noted_dup(descriptor):
        copies.append(dup(descriptor))
        return copies[-1]

    monkeypatch.setattr(os, "dup", noted_dup)
    monkeypatch.setattr(os, "close", failing_close)
    with (
        pytest.raises(ArtefactError, match="f: cannot be written: No space left on device"),
        atomic_write(tmp_path / "f", durable=False) as file,
    ):
        file.write(b"new")
    assert names(tmp_path) == []


# Groups.


def write_group(folder, content, parts=("f.data",), main="f"):
    with atomic_group() as group:
        files = [group.open(folder / name) for name in (*parts, main)]
        for file in files:
            file.write(content)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_group_appears_together(tmp_path):
    write_group(tmp_path, b"old")
    with atomic_group() as group:
        group.open(tmp_path / "f.data").write(b"new data")
        group.open(tmp_path / "f").write(b"new")
        assert {b"old"} == set(contents(tmp_path).values()) - {b""}
    assert contents(tmp_path) == {"f.data": b"new data", "f": b"new"}


@pytest.mark.parametrize("old", [{}, {"f": b"o"}, {"f.data": b"o"}, {"f": b"o", "f.data": b"o"}])
@pytest.mark.parametrize("fails", range(1, 5))
def test_error_while_a_group_is_published_undoes_it(tmp_path, monkeypatch, old, fails):
    for name, content in old.items():
        (tmp_path / name).write_bytes(content)
    replace, count = os.replace, 0

    def failing(source, target):
        nonlocal count
        count += 1
        if count == fails:
            raise OSError(errno.EIO, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    renames = 2 + ("f.data" in old) * (1 + ("f" in old))
    if fails > renames:
        write_group(tmp_path, b"new")
        assert contents(tmp_path) == {"f": b"new", "f.data": b"new"}
        return
    with pytest.raises(ArtefactError, match="f: cannot be written: Input/output error"):
        write_group(tmp_path, b"new")
    assert contents(tmp_path) == old


def test_part_of_the_same_content_is_not_touched(tmp_path, monkeypatch):
    write_group(tmp_path, b"same")
    before = (tmp_path / "f.data").stat()
    with atomic_group() as group:
        group.open(tmp_path / "f.data").write(b"same")
        group.open(tmp_path / "f").write(b"new")
    assert (tmp_path / "f.data").stat().st_ino == before.st_ino
    assert contents(tmp_path) == {"f.data": b"same", "f": b"new"}


def test_group_over_several_folders(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "f").symlink_to("other/f")
    with pytest.raises(ArtefactError, match=r"f: cannot be written together with .*f\.data"):
        write_group(tmp_path, b"new")
    assert names(tmp_path) == ["f", "other"]
    assert names(tmp_path / "other") == []


@pytest.mark.usefixtures("small_files")
def test_group_without_room_for_one_of_its_files(tmp_path):
    write_group(tmp_path, b"old")
    with pytest.raises(ArtefactError, match=r"f\.data: cannot be written: File too large"):
        write_group(tmp_path, bytes(2000))
    assert contents(tmp_path) == {"f.data": b"old", "f": b"old"}
