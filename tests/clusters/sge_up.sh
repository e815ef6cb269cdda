#!/usr/bin/env bash
# Starts a real Grid Engine on this one machine, from Debian's packages.
#
#   eval "$(tests/clusters/sge_up.sh)"     SGE_ROOT and the like then point qsub, qstat, qdel and qacct at it
#   tests/clusters/sge_up.sh --check       only says whether it runs (exit code, same line on stdout)
#
# Needs root. Installs what is missing and starts what does not answer; a second call changes nothing. stdout is that
# one line, all else goes to stderr. MLXP_SGE_DIR, _SLOTS, _PORT override the defaults below. See README.md.
set -euo pipefail
umask 022
unset CDPATH "${!SGE_@}"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dir=$(realpath -m "${MLXP_SGE_DIR:-${TMPDIR:-/tmp}/mlxp-clusters/sge}")
slots=${MLXP_SGE_SLOTS:-16}
port=${MLXP_SGE_PORT:-6444} # qmaster, as in /etc/services; then execd
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$here/common.sh"

packages=(gridengine-master gridengine-exec gridengine-client tcc) # tcc is for loopback.c
[[ -x /usr/sbin/sendmail ]] || packages+=(msmtp-mta)               # they depend on one; the default is a mail server
programs=/usr/lib/gridengine # what /usr/bin/qsub runs; that name may be another scheduler's
debian=/var/lib/gridengine
export SGE_ROOT=$dir/root SGE_CELL=default SGE_QMASTER_PORT=$port SGE_EXECD_PORT=$((port + 1))
common=$SGE_ROOT/$SGE_CELL/common

sge() { timeout 10 "$programs/$1" "${@:2}"; }

# ------------------------------------------------------------------------------------------------ what is asked of each
qmaster_answers() { sge qconf -sconf; }
queue_ready() { # all.q has a load and no state of alarm, error or unknown
  sge qstat -f -q all.q | awk '$1 ~ /^all\.q@/ { found = 1; if ($4 !~ /^[0-9]/ || $6) bad = 1 } END { exit !found || bad }'
}
answers() { qmaster_answers && queue_ready; }
print_line() {
  printf 'export SGE_ROOT=%q SGE_CELL=%q SGE_QMASTER_PORT=%q SGE_EXECD_PORT=%q\n' \
    "$SGE_ROOT" "$SGE_CELL" "$SGE_QMASTER_PORT" "$SGE_EXECD_PORT" >&3
}

if [[ ${1:-} == --check ]]; then
  [[ -s $common/act_qmaster ]] && answers >/dev/null 2>&1 && print_line
  exit
fi
(($# == 0)) || die "unknown argument: $1 (the only one is --check)"
((EUID == 0)) || die "must be root: sge_execd changes to the user of each job"
[[ $dir != *[[:space:],:]* ]] || die "no blank, comma or colon may be in the state directory: $dir (set MLXP_SGE_DIR)"
lock
name_the_host # first: the package configures a cluster of its own, and cannot where the name leads nowhere
install "${packages[@]}"
make_user
host=$(sge gethostname -name 2>/dev/null) || die "Grid Engine does not find the name of this machine: $(sge gethostname 2>&1)"

# ------------------------------------------------------------------------------------------------------- configuration
# as Debian's, but: root may submit, no mail, nothing waits. gid_range: by these groups sge_execd knows a job's processes,
# so a second Grid Engine on the machine must have others.
global() {
  sed -E -e 's/^(min_[ug]id +).*/\10/' -e 's#^(mailer +).*#\1/bin/true#' -e 's/^(administrator_mail +).*/\1none/' \
    -e "s#^(execd_spool_dir +).*#\1$dir/execd#" -e 's/^(load_report_time +).*/\100:00:05/' \
    -e "s/^(gid_range +).*/\1$((port * 1000))-$((port * 1000 + 999))/" \
    -e 's/^(reporting_params +).*/\1accounting=true reporting=false flush_time=00:00:01 accounting_flush_time=00:00:00 joblog=false sharelog=00:00:00/' \
    /usr/share/gridengine/default-configuration
}
bootstrap() {
  sed -E -e "s#^(spooling_params +).*#\1$dir/spool;$dir/qmaster#" -e 's/^(spooling_method +).*/\1classic/' \
    -e 's/^(spooling_lib +).*/\1libspoolc/' -e "s#^(qmaster_spool_dir +).*#\1$dir/qmaster#" \
    -e "s#^(binary_path +).*#\1$programs#" /usr/share/gridengine/default-bootstrap
}
contents() { # of all that decides what runs: another call with the same finds it up
  echo "$dir $slots $port $host $address"
  cat "$here/sge_up.sh" "$here/loopback.c"
}
if [[ -s $dir/contents ]] && cmp -s "$dir/contents" <(contents) && answers >/dev/null 2>&1; then
  say "is up already"
  print_line
  exit
fi

# All or nothing: what is there in parts, stuck, or differently configured, goes first; and on failure so do we.
# Each start is a new cluster, with job 1: neither queue nor accounting of the last one is kept.
bash "$here/sge_down.sh" --wipe 3>&-
trap 'bash "$here/sge_down.sh" 3>&- || true' EXIT
for p in "$SGE_QMASTER_PORT" "$SGE_EXECD_PORT"; do
  ! (: <>"/dev/tcp/$address/$p") 2>/dev/null || die "port $p is in use by something else (set MLXP_SGE_PORT)"
done
mkdir -p "$common" "$dir"/{log,execd,qmaster,spool,etc}
runuser -u "$user" -- test -x "$common" || die "other users cannot reach the state directory: $dir (set MLXP_SGE_DIR)"
ln -s "$debian"/{bin,lib,util,utilbin} "$SGE_ROOT"
bootstrap >"$common/bootstrap"
echo "$host" >"$common/act_qmaster"
# 127.0.0.1 leads back to the name "localhost": unless that is this host's, every client is denied access
echo "$host localhost" >"$common/host_aliases"
chown -R sgeadmin: "$common" "$dir"/{execd,qmaster,spool}
preload=()
if [[ $address == 127.* ]]; then
  tcc -shared -nostdlib -o "$dir/loopback.so" "$here/loopback.c" || die "tcc cannot compile loopback.c"
  preload=("LD_PRELOAD=$dir/loopback.so")
else
  say "the name of this machine leads to $address: Grid Engine listens on every interface"
fi
global >"$dir/etc/global"
spool() { # spool PROGRAM ARGUMENT…: written for a qmaster that does not run yet
  runuser -u sgeadmin -- "$programs/$1" "${@:2}" >>"$dir/log/spool.out" 2>&1 || die "$1 ${*:2} failed" "$dir/log/spool.out"
}
spool spoolinit classic libspoolc "$dir/spool;$dir/qmaster" init
spool spooldefaults configuration "$dir/etc/global"
spool spooldefaults complexes /usr/share/gridengine/util/resources/centry
spool spooldefaults usersets /usr/share/gridengine/util/resources/usersets
spool spooldefaults managers root sgeadmin

# -------------------------------------------------------------------------------------------------------------- daemons
# sge_execd hands its own environment to each job; sge_down.sh knows both, and the shepherds, by SGE_ROOT in it
variables=(SGE_ROOT="$SGE_ROOT" SGE_CELL="$SGE_CELL" SGE_QMASTER_PORT="$SGE_QMASTER_PORT" SGE_EXECD_PORT="$SGE_EXECD_PORT")
daemon qmaster "${variables[@]}" "${preload[@]}" "$programs/sge_qmaster"
await 30 qmaster qmaster_answers

configure() { # configure ARGUMENT…
  sge qconf "$@" >>"$dir/log/qconf.out" 2>&1 || die "qconf $* failed" "$dir/log/qconf.out"
}
lines() { sed -e ':again;/\\$/{N;s/\\\n *//;b again}'; } # qconf folds long ones
configure -ah "$host"
configure -as "$host"
sge qconf -ssconf | lines | sed -E -e 's/^(schedule_interval +).*/\10:0:1/' -e 's/^(flush_(submit|finish)_sec +).*/\11/' \
  -e 's/^(job_load_adjustments +).*/\1NONE/' >"$dir/etc/scheduler"
configure -Msconf "$dir/etc/scheduler"
printf 'hostname %s\nload_scaling NONE\ncomplex_values NONE\nuser_lists NONE\nxuser_lists NONE\nprojects NONE\nxprojects NONE\nusage_scaling NONE\nreport_variables NONE\n' \
  "$host" >"$dir/etc/host"
configure -Ae "$dir/etc/host"
cat >"$dir/etc/smp" <<'CONF'
pe_name            smp
slots              9999
user_lists         NONE
xuser_lists        NONE
start_proc_args    NONE
stop_proc_args     NONE
allocation_rule    $pe_slots
control_slaves     FALSE
job_is_first_task  TRUE
urgency_slots      min
accounting_summary FALSE
qsort_args         NONE
CONF
configure -Ap "$dir/etc/smp"
printf 'group_name @allhosts\nhostlist %s\n' "$host" >"$dir/etc/hosts"
configure -Ahgrp "$dir/etc/hosts"
sge qconf -sq | lines | sed -E -e 's/^(qname +).*/\1all.q/' -e 's/^(hostlist +).*/\1@allhosts/' -e "s/^(slots +).*/\1$slots/" \
  -e 's/^(load_thresholds +).*/\1NONE/' -e 's/^(pe_list +).*/\1smp/' -e 's#^(shell +).*#\1/bin/bash#' \
  -e 's/^(shell_start_mode +).*/\1unix_behavior/' -e 's/^(notify +).*/\100:00:05/' >"$dir/etc/queue"
configure -Aq "$dir/etc/queue"

daemon execd "${variables[@]}" "${preload[@]}" "$programs/sge_execd"
await 30 execd queue_ready

contents >"$dir/contents"
trap - EXIT
say "$slots slots are up after $SECONDS s"
print_line
