"""Proof of a conversion: several engines on the same input, compared blob by blob."""

RANDOM_BATCHES = 3
"""Fed where neither arrays nor images are given; here, so that ``--help`` imports no more."""
