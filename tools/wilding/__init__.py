"""What ``tools/wild.py`` does with one net, and how it watches over it."""
