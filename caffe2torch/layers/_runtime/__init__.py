"""Functions and modules in plain torch, for the torch lowering and for emitted source.

``lower/runtime_code.py`` copies a definition, with those that it mentions, out of these
files. So a file imports nothing but the standard library, torch, nn, F and its
siblings, and is itself imported only where torch is needed. No name is defined twice.
"""
