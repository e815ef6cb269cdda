"""Readers of the files of one run."""
