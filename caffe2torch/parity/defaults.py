"""What parity does unless it is told otherwise; light to import for the command line."""

ENGINES = ("torch", "onnxruntime", "opencv")
"""The first that runs is the baseline."""
RANDOM_BATCHES = 3
