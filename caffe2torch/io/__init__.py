"""Reading of model files: bytes, prototxt and HDF5 to messages and arrays."""
