"""``python -m squeezenet``."""

from squeezenet.cli import main

main(prog_name="squeezenet")
