#!/usr/bin/env bash
# Stops the OAR that oar_up.sh started, and its jobs; nothing else. Quiet and content when there is none.
#
#   tests/clusters/oar_down.sh            jobs and logs stay for the next time
#   tests/clusters/oar_down.sh --wipe     and removes them
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
dir=$(realpath -m "${MLXP_OAR_DIR:-${TMPDIR:-/tmp}/mlxp-clusters/oar}") # as in oar_up.sh
# shellcheck source-path=SCRIPTDIR source=down.sh
source "$(dirname "${BASH_SOURCE[0]}")/down.sh"
conf=/etc/oar/oar.conf
original=$conf.before-mlxp-clusters

ours() { # ours NAME: the pids of programs of that name that belong to this state directory
  local proc name words
  for proc in /proc/[0-9]*; do
    { read -r name <"$proc/comm"; } 2>/dev/null || continue
    [[ $name == "$1" ]] || continue
    { mapfile -d '' -t words <"$proc/cmdline"; } 2>/dev/null || continue # a zombie has none
    [[ "${words[*]}" != *[\ =]"$dir"/* ]] || echo "${proc#/proc/}"
  done
}

begin

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

finish "$@"
