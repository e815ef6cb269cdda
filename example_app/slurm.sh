#!/bin/bash
# The template of hydra/launcher=mlxp_slurm hydra.launcher.template=slurm.sh: your own native job script.
#SBATCH --time=00:10:00
#SBATCH --mem=500M
#SBATCH --cpus-per-task=1

# set-up lines go here: module load python, conda activate, export …
python main.py
