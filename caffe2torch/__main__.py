"""``python -m caffe2torch``."""

from caffe2torch.cli import main

main(prog_name="caffe2torch")
