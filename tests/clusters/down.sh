# shellcheck shell=bash disable=SC2154  # the one who sources it sets dir, its state directory, and has a function ours
# What slurm_down.sh, sge_down.sh and oar_down.sh do alike. `ours NAME` prints the pids of the programs of that name that
# belong to $dir.

me=${0##*/}
left=0

say() { printf '%s: %s\n' "$me" "$*" >&2; }

begin() { # end here where there is nothing to stop, or where that cannot be done; hold the lock on $dir
  [[ -d $dir ]] || exit 0
  if ((EUID != 0)); then
    say "must be root"
    exit 1
  fi
  [[ ${MLXP_CLUSTER_LOCKED:-} != "$dir" ]] || return 0 # called by …_up.sh, which holds it
  exec 9>"$dir.lock"
  flock -w 600 9 || {
    say "another script has held $dir.lock for 10 minutes"
    exit 1
  }
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

kill_jobs_under() { # kill_jobs_under SHEPHERD: each job is the session of a child of such a program, which outlives its daemon
  local pid child children
  for pid in $(ours "$1"); do
    read -ra children < <(cat "/proc/$pid/task/$pid/children" 2>/dev/null; echo) # that file ends without a newline
    for child in "${children[@]}"; do
      say "kills the job under $1 $pid"
      kill -KILL -- "-$child" 2>/dev/null || kill -KILL "$child" 2>/dev/null || true
    done
  done
}

finish() { # finish [--wipe]: with exit code 1 where a program could not be stopped
  if [[ ${1:-} == --wipe ]] && ((left == 0)); then rm -rf "$dir"; fi
  exit "$left"
}
