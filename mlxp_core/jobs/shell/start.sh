# shellcheck shell=sh disable=SC2154
# Notes that script.sh has started. Set above: mlxp_metadata, mlxp_job_id.

mlxp_start="$(date +%Y-%m-%dT%H:%M:%S%z) $(uname -n) $$ $mlxp_job_id"
echo "$mlxp_start" >>"$mlxp_metadata/starts" || : # also where the shell stumbles over what follows
