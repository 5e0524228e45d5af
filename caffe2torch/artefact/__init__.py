"""Converted files: one module for each kind that is written, and one that reads them."""
