#!/usr/bin/env bash
# Stops the Slurm that slurm_up.sh started, and its jobs; nothing else. Quiet and content when there is none.
#
#   tests/clusters/slurm_down.sh            jobs, accounts and logs stay for the next time
#   tests/clusters/slurm_down.sh --wipe     and removes them
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
dir=$(realpath -m "${MLXP_SLURM_DIR:-${TMPDIR:-/tmp}/mlxp-clusters/slurm}") # as in slurm_up.sh
# shellcheck source-path=SCRIPTDIR source=down.sh
source "$(dirname "${BASH_SOURCE[0]}")/down.sh"
unset "${!SLURM_@}" "${!SQUEUE_@}"
export SLURM_CONF=$dir/etc/slurm.conf

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

begin

# Jobs first: slurmstepd outlives slurmd, and a job would go on without any Slurm.
if [[ -n $(ours slurmctld) ]] && timeout 5 scontrol ping 2>/dev/null | grep -q 'is UP'; then
  timeout 20 squeue -h -o %A | sort -u | xargs -r timeout 20 scancel || true
  end=$((SECONDS + 20)) # KillWait is 5
  while ((SECONDS < end)) && [[ -n $(timeout 5 squeue -h -t R,CG,S,CF -o %A) ]]; do sleep 0.2; done
fi
kill_jobs_under slurmstepd
stop slurmd 10
stop slurmstepd 2
stop slurmctld 20
stop slurmdbd 20
stop mariadbd 30
stop munged 5

finish "$@"
