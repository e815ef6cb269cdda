#!/usr/bin/env bash
# Stops the Grid Engine that sge_up.sh started, and its jobs; nothing else. Quiet and content when there is none.
#
#   tests/clusters/sge_down.sh            logs and accounting stay until the next start
#   tests/clusters/sge_down.sh --wipe     and removes them
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
dir=$(realpath -m "${MLXP_SGE_DIR:-${TMPDIR:-/tmp}/mlxp-clusters/sge}") # as in sge_up.sh
left=0

say() { printf 'sge_down.sh: %s\n' "$*" >&2; }

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

stop() { # stop NAME SECONDS: asked to end, all of that name at once, and forced after that time
  local name=$1 end=$((SECONDS + $2)) pids
  mapfile -t pids < <(ours "$name")
  ((${#pids[@]})) || return 0
  kill -TERM "${pids[@]}" 2>/dev/null || true
  while [[ -n $(ours "$name") ]]; do
    if ((SECONDS >= end)); then
      mapfile -t pids < <(ours "$name")
      say "$name (${pids[*]}) did not end within $2 s: killed"
      kill -KILL "${pids[@]}" 2>/dev/null || true
      sleep 0.5
      [[ -z $(ours "$name") ]] || left=1
      return 0
    fi
    sleep 0.1
  done
}

[[ -d $dir ]] || exit 0
if ((EUID != 0)); then
  say "must be root"
  exit 1
fi
if [[ ${MLXP_CLUSTER_LOCKED:-} != "$dir" ]]; then
  exec 9>"$dir.lock"
  flock -w 600 9 || {
    say "another script has held $dir.lock for 10 minutes"
    exit 1
  }
fi

# Jobs first, each in a session of its own under a shepherd, which outlives sge_execd.
stop sge_execd 10
for pid in $(ours sge_shepherd); do
  read -ra children < <(cat "/proc/$pid/task/$pid/children" 2>/dev/null; echo) # that file ends without a newline
  for child in "${children[@]}"; do
    say "kills the job under sge_shepherd $pid"
    kill -KILL -- "-$child" 2>/dev/null || kill -KILL "$child" 2>/dev/null || true
  done
done
stop sge_shepherd 2
stop sge_qmaster 20

if [[ ${1:-} == --wipe ]] && ((left == 0)); then rm -rf "$dir"; fi
exit "$left"
