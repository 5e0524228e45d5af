"""What tools/runtimes.py runs, and the page that it writes."""
