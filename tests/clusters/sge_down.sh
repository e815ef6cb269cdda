#!/usr/bin/env bash
# Stops the Grid Engine that sge_up.sh started, and its jobs; nothing else. Quiet and content when there is none.
#
#   tests/clusters/sge_down.sh            logs and accounting stay until the next start
#   tests/clusters/sge_down.sh --wipe     and removes them
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
dir=$(realpath -m "${MLXP_SGE_DIR:-${TMPDIR:-/tmp}/mlxp-clusters/sge}") # as in sge_up.sh
# shellcheck source-path=SCRIPTDIR source=down.sh
source "$(dirname "${BASH_SOURCE[0]}")/down.sh"

ours() { # ours NAME: the pids of programs of that name that belong to this state directory
  local proc name
  for proc in /proc/[0-9]*; do
    { read -r name <"$proc/comm"; } 2>/dev/null || continue
    [[ $name == "$1" ]] || continue
    # their command lines have no path
    { grep -qzxF "SGE_ROOT=$dir/root" "$proc/environ"; } 2>/dev/null || continue
    echo "${proc#/proc/}"
  done
}

begin

# Jobs first, each in a session of its own under a shepherd, which outlives sge_execd.
stop sge_execd 10
kill_jobs_under sge_shepherd
stop sge_shepherd 2
stop sge_qmaster 20

finish "$@"
