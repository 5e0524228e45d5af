"""Compile proto/caffe.proto to the descriptor set that the package loads.

Needs ``grpcio-tools`` (a protoc in a wheel). Run after every change of the schema::

    python tools/compile_schema.py
"""

import sys
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "proto" / "caffe.proto"
TARGET = ROOT / "caffe2torch" / "io" / "caffe.desc"


def main() -> int:
    """Run protoc; its exit code is returned."""
    arguments = [f"-I{SOURCE.parent}", f"--descriptor_set_out={TARGET}", str(SOURCE)]
    return int(protoc.main(["protoc", *arguments]))


if __name__ == "__main__":
    sys.exit(main())
