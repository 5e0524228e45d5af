"""Training of any net by its solver, as Caffe computes it."""
