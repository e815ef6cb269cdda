"""One file a scheduler: all that is particular to it."""
