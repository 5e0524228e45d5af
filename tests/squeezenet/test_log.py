import pytest

from caffe2torch.errors import ArtefactError
from caffe2torch.training.log import append_line


def test_lines_are_appended(tmp_path):
    for step in (1, 2):
        append_line(tmp_path / "log", {"step": step, "loss": 0.5})
    assert (tmp_path / "log").read_text() == '{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.5}\n'


@pytest.mark.parametrize(
    ("before", "kept"),
    [
        ('{"step": 1}\n{"st', '{"step": 1}\n'),
        ('{"st', ""),
        ('{"step": 1}', '{"step": 1}\n'),
        ('{"step": 1}\n' * 9000 + '{"st', '{"step": 1}\n' * 9000),
        ("", ""),
    ],
)
def test_line_cut_short_is_removed(tmp_path, before, kept):
    (tmp_path / "log").write_text(before)
    append_line(tmp_path / "log", {"step": 2})
    assert (tmp_path / "log").read_text() == kept + '{"step": 2}\n'


def test_log_that_cannot_be_written(tmp_path):
    (tmp_path / "log").mkdir()
    with pytest.raises(ArtefactError, match=r"cannot append to .*log: Is a directory"):
        append_line(tmp_path / "log", {"step": 1})
