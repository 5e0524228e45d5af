"""The rows of tools/bench_gpu.py."""
