"""What configurations and results are in, where MLXP has it."""
