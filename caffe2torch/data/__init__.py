"""What Caffe's data layers read: databases, image lists and arrays, as batches of tensors."""
