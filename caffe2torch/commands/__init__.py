"""The commands, one file each: options, a call of the Python API, printing."""
