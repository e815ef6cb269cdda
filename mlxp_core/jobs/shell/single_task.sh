# shellcheck shell=sh disable=SC2154
# A job, or a task of an array, for one run. Set above: mlxp_manifest, mlxp_first.

mlxp_run=$(sed -n "${mlxp_first}p" "$mlxp_manifest")
[ -n "$mlxp_run" ] || exit
mlxp_start "$mlxp_run"
