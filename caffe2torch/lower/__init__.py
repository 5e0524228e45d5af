"""The two lowerings of a graph: to a torch module and to ONNX."""
