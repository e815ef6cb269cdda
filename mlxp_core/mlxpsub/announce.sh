# shellcheck shell=sh disable=SC2154,SC2329
# Read by a job script that mlxpsub runs. Set above: MLXP_SUB, the folder of the session, and mlxp_env, the path of env.

mlxp_at() { # mlxp_at NUMBER: the top-level command of this number is about to run; $? stays
  mlxp_was=$?
  MLXP_SUB_AT=$1
  export MLXP_SUB_AT
  "$mlxp_env" -0 >|"$MLXP_SUB/variables.$1" 2>/dev/null
  return "$mlxp_was"
}
mlxp_stand_in() { # mlxp_stand_in NAME…: a function of the name, found before what a new PATH has
  for mlxp_name in "$@"; do
    eval "$mlxp_name() { \"\$MLXP_SUB/bin/$mlxp_name\" \"\$@\"; }"
  done
  unset mlxp_name
}
