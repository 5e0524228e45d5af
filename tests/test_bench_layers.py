"""The figures of data layers: each layer of the phase is read with each number of workers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

if sys.platform == "win32":
    pytest.skip("the tool reads counts of processor time", allow_module_level=True)

from bench_layers import main


def test_every_layer_of_the_phase_is_read(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(
        """
        layer { name: "a" type: "DummyData" top: "a" dummy_data_param { shape { dim: 3 dim: 5 } } }
        layer { name: "b" type: "DummyData" top: "b" include { phase: TEST }
                dummy_data_param { shape { dim: 3 } } }
        layer { name: "c" type: "InnerProduct" bottom: "a" top: "c"
                inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
        """
    )
    result = CliRunner().invoke(
        main, [str(path), "--batches", "2", "--workers", "0", "--workers", "1"]
    )
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "a (DummyData): batches of (3, 5)"
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["0 workers", "1 workers"]
