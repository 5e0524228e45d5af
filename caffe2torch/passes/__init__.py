"""The passes from a file's messages to the Graph.

Each takes a ``Draft`` and changes it. Their order is ``caffe2torch.pipeline.PASSES``; every
docstring shows a net before and after its pass.
"""
