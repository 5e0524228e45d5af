"""Graph -> graph: the same function of other inputs, or the same function in fewer steps."""
