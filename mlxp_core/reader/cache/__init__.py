"""Caches of runs that do not change, in memory and on disk."""
