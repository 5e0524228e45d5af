"""Kills of real processes at random moments, and what they leave behind."""
