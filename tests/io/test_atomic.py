"""Files that are either whole or not there."""

import pytest

from caffe2torch.errors import ArtefactError
from caffe2torch.io.atomic import atomic_write


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


def test_writes_through_a_link(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "f")
    with atomic_write(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "f").read_bytes() == b"new"


def test_folder_that_does_not_exist(tmp_path):
    with (
        pytest.raises(ArtefactError, match="none/f: cannot be written: No such file or directory"),
        atomic_write(tmp_path / "none" / "f"),
    ):
        pass


def test_path_that_is_a_folder(tmp_path):
    (tmp_path / "f").mkdir()
    with (
        pytest.raises(ArtefactError, match="f: cannot be written: Is a directory"),
        atomic_write(tmp_path / "f") as file,
    ):
        file.write(b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
