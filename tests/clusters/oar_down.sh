#!/usr/bin/env bash
# Stops the OAR that oar_up.sh started, and its jobs; nothing else. Quiet and content when there is none.
#
#   tests/clusters/oar_down.sh            jobs and logs stay for the next time
#   tests/clusters/oar_down.sh --wipe     and removes them
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
dir=$(realpath -m "${MLXP_OAR_DIR:-${TMPDIR:-/tmp}/mlxp-clusters/oar}") # as in oar_up.sh
conf=/etc/oar/oar.conf
original=$conf.before-mlxp-clusters
left=0

say() { printf 'oar_down.sh: %s\n' "$*" >&2; }

ours() { # ours NAME: the pids of programs of that name that belong to this state directory
  local proc name words
  for proc in /proc/[0-9]*; do
    { read -r name <"$proc/comm"; } 2>/dev/null || continue
    [[ $name == "$1" ]] || continue
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
    say "another script has held $dir.lock for 10 minutes"
    exit 1
  }
fi

queue() { timeout 20 oarstat -J 2>/dev/null | sed -nE 's/^   "([0-9]+)".*/\1/p'; }

# Jobs first: they outlive the server, each in a session that "perl - ID OAREXEC" leads.
if [[ -n $(ours Almighty) && -n $(ours postgres) ]]; then
  queue | xargs -r timeout 20 oardel >/dev/null 2>&1 || true
  end=$((SECONDS + 20)) # they are killed 2 to 5 s after oardel
  while ((SECONDS < end)) && [[ -n $(queue) ]]; do sleep 0.2; done
fi
stop Almighty 10
while read -r session job; do
  say "kills the session of job $job"
  ps -o pid= -s "$session" | xargs -r kill -KILL 2>/dev/null || true
done < <([[ ! -e $original ]] || ps -u oar -o sid=,args= | sed -nE 's/^ *([0-9]+) perl - ([0-9]+) OAREXEC$/\1 \2/p')
stop sshd 5
stop postgres 20
# OAR's commands, of which there is one set, had ours
if grep -qxF "# mlxp-clusters $dir" "$conf" 2>/dev/null; then mv "$original" "$conf"; fi

if [[ ${1:-} == --wipe ]] && ((left == 0)); then rm -rf "$dir"; fi
exit "$left"
