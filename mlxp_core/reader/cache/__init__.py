"""Keeping what was read of runs that do not change."""
