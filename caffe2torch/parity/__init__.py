"""Proof of a conversion: several engines on the same input, compared blob by blob."""
