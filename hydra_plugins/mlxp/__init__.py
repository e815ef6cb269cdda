"""hydra-mlxp's plugins for Hydra: launchers, a sweeper and a callback.

Hydra imports every module of this package whose name has no leading underscore at the start of every Hydra program
of the environment, so those load nothing that Hydra has not loaded itself.
"""
