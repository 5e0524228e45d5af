from __future__ import annotations

import subprocess
import sys


def test_reading_imports_no_engine() -> None:
    code = (
        "import sys\n"
        "import caffe2torch.io.caffemodel, caffe2torch.io.blob, caffe2torch.io.prototxt\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'cv2', 'h5py'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
