"""Sweeps: which jobs there are, and which of them have run already."""
