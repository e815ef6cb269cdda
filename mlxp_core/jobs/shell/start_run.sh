# shellcheck shell=sh disable=SC2329
# A run whose script has started before keeps what that attempt printed, beside its metadata.
# Set above: mlxp_become, which replaces this shell by the script of a run.

mlxp_start() { # mlxp_start RUN: become its script
  if [ -s "$1/metadata/starts" ]; then
    mlxp_earlier=$1/metadata/attempts/$(($(wc -l <"$1/metadata/starts")))
    mkdir -p "$mlxp_earlier"
    for mlxp_log in log.stdout log.stderr; do
      [ ! -e "$1/$mlxp_log" ] || mv "$1/$mlxp_log" "$mlxp_earlier/$mlxp_log"
    done
  fi
  mlxp_become "$1"
}
