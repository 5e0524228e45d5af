"""Hostile inputs for every reader: seeds, mutations, what is run, and who watches it."""
