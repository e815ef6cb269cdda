"""Names that configurations, commands and jobs have in common: of our plugins, placeholders and variables."""

CALLBACK = "hydra_plugins.mlxp.callback.MlxpCallback"
LAUNCHER = "hydra_plugins.mlxp.launcher.MlxpLauncher"
SWEEPER = "hydra_plugins.mlxp.sweeper.MlxpSweeper"

# in hydra.run.dir, hydra.sweep.dir and hydra.sweep.subdir: plain text and no interpolations, which Hydra would resolve,
# with a parser, at every merge of every composition
LOG_DIR, ID = "{log_dir}", "{id}"
# what ``{id}`` becomes in a multirun: an interpolation, for Hydra asks for each job's folder at the last moment
RUN_ID = "${mlxp:run_id}"
MAIN = "MLXP_MAIN"  # for a job: which of the main functions that its program calls is its own, from 1
