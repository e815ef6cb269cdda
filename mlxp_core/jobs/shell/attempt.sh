# shellcheck shell=sh disable=SC2034,SC2154
# Begins the attempt that start.sh has noted. Set above: mlxp_metadata, mlxp_start.

mlxp_options=$-
set +e
rm -f "$mlxp_metadata/exit_code"
MLXP_ATTEMPT=$(grep -nxF -e "$mlxp_start" "$mlxp_metadata/starts" | tail -n 1)
export MLXP_ATTEMPT="${MLXP_ATTEMPT%%:*}"
mlxp_pid="$mlxp_metadata/.pid.$MLXP_ATTEMPT.$$" mlxp_end="$mlxp_metadata/.end.$MLXP_ATTEMPT.$$"
