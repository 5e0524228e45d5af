"""``import caffe`` in a process of a program: it inherits Python's path, but no modules."""

from caffe2torch.pycaffe import alias

alias.install()  # Puts the package where this module is looked for.
