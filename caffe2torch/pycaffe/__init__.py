"""Caffe's Python interface, so that programs that say ``import caffe`` run."""
