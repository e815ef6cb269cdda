#!/usr/bin/env bash
# Stops the Slurm that slurm_up.sh started, and its jobs; nothing else. Quiet and content when there is none.
#
#   tests/clusters/slurm_down.sh            jobs, accounts and logs stay for the next time
#   tests/clusters/slurm_down.sh --wipe     and removes them
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
dir=$(realpath -m "${MLXP_SLURM_DIR:-${TMPDIR:-/tmp}/mlxp-clusters/slurm}") # as in slurm_up.sh
unset "${!SLURM_@}" "${!SQUEUE_@}"
export SLURM_CONF=$dir/etc/slurm.conf
left=0

say() { printf 'slurm_down.sh: %s\n' "$*" >&2; }

ours() { # ours NAME: the pids of programs of that name that belong to this state directory
  local proc name words cwd
  for proc in /proc/[0-9]*; do
    { read -r name <"$proc/comm"; } 2>/dev/null || continue
    [[ $name == "$1" ]] || continue
    # slurmstepd gives itself a title without any path, but works in the folder of the log
    if [[ $name == slurmstepd ]]; then
      cwd=$(readlink "$proc/cwd") || continue
      [[ $cwd != "$dir"/* ]] || echo "${proc#/proc/}"
      continue
    fi
    { mapfile -d '' -t words <"$proc/cmdline"; } 2>/dev/null || continue # a zombie has none
    [[ "${words[*]}" != *[\ =]"$dir"/* ]] || echo "${proc#/proc/}"
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
    say "another slurm_up.sh or slurm_down.sh has held $dir.lock for 10 minutes"
    exit 1
  }
fi

# Jobs first: slurmstepd outlives slurmd, and a job would go on without any Slurm.
if [[ -n $(ours slurmctld) ]] && timeout 5 scontrol ping 2>/dev/null | grep -q 'is UP'; then
  timeout 20 squeue -h -o %A | sort -u | xargs -r timeout 20 scancel || true
  end=$((SECONDS + 20)) # KillWait is 5
  while ((SECONDS < end)) && [[ -n $(timeout 5 squeue -h -t R,CG,S,CF -o %A) ]]; do sleep 0.2; done
fi
for pid in $(ours slurmstepd); do
  read -ra children < <(cat "/proc/$pid/task/$pid/children" 2>/dev/null; echo) # that file ends without a newline
  for child in "${children[@]}"; do
    say "kills the job under slurmstepd $pid"
    kill -KILL -- "-$child" 2>/dev/null || true
  done
done
stop slurmd 10
stop slurmstepd 2
stop slurmctld 20
stop slurmdbd 20
stop mariadbd 30
stop munged 5

if [[ ${1:-} == --wipe ]] && ((left == 0)); then rm -rf "$dir"; fi
exit "$left"
