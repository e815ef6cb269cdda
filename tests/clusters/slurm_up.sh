#!/usr/bin/env bash
# Starts a real Slurm of several nodes on this one machine, with accounting, from Debian's packages.
#
#   eval "$(tests/clusters/slurm_up.sh)"     SLURM_CONF then points every Slurm command at it, and MLXP_TORQUE_BIN is a
#                                            folder with TORQUE's commands (Slurm's wrapper) for the front of PATH
#   tests/clusters/slurm_up.sh --check       only says whether it runs (exit code, same line on stdout)
#
# Needs root. Installs what is missing and starts what does not answer; a second call changes nothing. stdout is that
# one line, all else goes to stderr. MLXP_SLURM_DIR, _NODES, _CPUS, _PORT override the defaults below. See README.md.
set -euo pipefail
umask 022
unset CDPATH "${!SLURM_@}" "${!SBATCH_@}" "${!SQUEUE_@}" "${!SINFO_@}"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

dir=$(realpath -m "${MLXP_SLURM_DIR:-${TMPDIR:-/tmp}/mlxp-clusters/slurm}")
nodes=${MLXP_SLURM_NODES:-4}
cpus=${MLXP_SLURM_CPUS:-4}
port=${MLXP_SLURM_PORT:-18000} # slurmctld; then one for each slurmd; slurmdbd 900 above
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$here/common.sh"

packages=(munge slurmctld slurmd slurm-client slurmdbd mariadb-server iproute2)
packages+=(libslurm-perl libslurmdb-perl libswitch-perl) # of TORQUE's commands, see below
munge_socket=$dir/run/munge/socket
sql_socket=$dir/run/mysql/socket
export SLURM_CONF=$dir/etc/slurm.conf

torque=$dir/torque/bin

slurm_daemon() { # slurm_daemon NAME COMMAND…
  daemon "$1" SLURM_CONF="$SLURM_CONF" MYSQL_UNIX_PORT="$sql_socket" "${@:2}"
}

# ------------------------------------------------------------------------------------------------ what is asked of each
munge_answers() { timeout 5 munge -n -S "$munge_socket" | timeout 5 unmunge -S "$munge_socket"; }
sql_answers() { timeout 10 mariadb --no-defaults -S "$sql_socket" -e 'select 1'; }
slurmdbd_answers() { timeout 10 sacctmgr -n show cluster; }
slurmctld_answers() { timeout 5 scontrol ping | grep -q 'is UP'; }
nodes_ready() { # resuming those that a test, or an end in the middle of a job, left drained or down
  local state good=0
  while read -r name state; do
    case $state in
      idle | mixed | allocated | completing) good=$((good + 1)) ;;
      drain* | down* | fail*) timeout 5 scontrol update nodename="$name" state=resume || true ;;
    esac
  done < <(timeout 5 sinfo -h -N -p main -o '%N %T')
  ((good == nodes))
}
answers() { munge_answers && slurmctld_answers && slurmdbd_answers; }
up() {
  answers || return 1
  for _ in {1..50}; do
    ! nodes_ready || return 0
    sleep 0.1
  done
  return 1
}
print_line() { printf 'export SLURM_CONF=%q MLXP_TORQUE_BIN=%q\n' "$SLURM_CONF" "$torque" >&3; }

if [[ ${1:-} == --check ]]; then
  [[ -s $SLURM_CONF && -x $torque/qsub ]] && answers >/dev/null 2>&1 && print_line
  exit
fi
(($# == 0)) || die "unknown argument: $1 (the only one is --check)"
((EUID == 0)) || die "must be root: slurmd changes to the user of each job"
[[ $dir != *[[:space:]]* ]] || die "no blank may be in the state directory, slurm.conf has no quotes: $dir (set MLXP_SLURM_DIR)"
((${#munge_socket} < 100)) || die "the state directory is too long for the path of a socket: $dir (set MLXP_SLURM_DIR)"

lock
mkdir -p "$dir"/{etc,run,log,spool,state,munge,mysql,run/munge,run/mysql}
install "${packages[@]}"
make_user

# --------------------------------------------------------------------------------------------------- TORQUE's commands
# slurm-wlm-torque cannot be installed beside Grid Engine, whose qsub has the same path: so it is only unpacked.
version=$(dpkg-query -W -f='${Version}' slurm-client)
if [[ ! -x $torque/qsub || $(cat "$dir/torque/version" 2>/dev/null) != "$version" ]]; then
  say "unpacking slurm-wlm-torque $version"
  rm -rf "$dir/torque"
  mkdir -p "$dir/torque/unpacked"
  lock_apt
  download() { (cd "$dir/torque" && apt_get 60 download "slurm-wlm-torque=$version"); }
  download || { apt_get 180 update && download; } || die "apt-get download slurm-wlm-torque failed" "$dir/log/apt.log"
  unlock_apt
  dpkg-deb -x "$dir"/torque/*.deb "$dir/torque/unpacked" || die "slurm-wlm-torque cannot be unpacked"
  mv "$dir/torque/unpacked/usr/bin" "$torque"
  rm -rf "$dir/torque/unpacked" "$dir"/torque/*.deb
  ln -s /usr/bin/{sbatch,salloc,srun} "$torque" # its qsub looks for them in its own folder
  echo "$version" >"$dir/torque/version"
fi

# --------------------------------------------------------------------------------------- directories and the munge key
# recursively: reinstalled packages may have got other uids
chown -R munge: "$dir"/{munge,run/munge}
chown -R slurm: "$dir"/{state,log}
chown slurm: "$dir/run"
chown -R mysql: "$dir"/{mysql,run/mysql}
chmod 700 "$dir"/{munge,mysql,state}
if [[ ! -s $dir/munge/key ]]; then
  (umask 077 && head -c 1024 /dev/urandom >"$dir/munge/key")
  chown munge: "$dir/munge/key"
fi
runuser -u "$user" -- test -x "$dir/etc" ||
  die "other users cannot reach the state directory, and munge, slurm and mysql are other users: $dir (set MLXP_SLURM_DIR)"

# ------------------------------------------------------------------------------------------------------- name and address
# glibc does not count 127.0.0.1 as an address of the machine (AI_ADDRCONFIG): where it is the only one, Slurm cannot
# resolve any host at all, not even "127.0.0.1". Any second address cures that.
ip link set lo up 2>/dev/null || true
if ! ip -4 -o addr show | grep -v 'inet 127\.0\.0\.1/' | grep -q inet; then
  ip addr add 127.0.0.2/32 dev lo || say "only 127.0.0.1 here and no second address can be added: Slurm may not resolve any host"
fi
# NoInAddrAny makes the daemons listen on the address of the machine's own name only: on loopback, where that name leads
# there. Where it leads elsewhere they listen on every interface; munge guards them.
name_the_host
listen=NoInAddrAny,NoCtldInAddrAny
[[ $address == 127.* ]] || listen="" address=127.0.0.1

# ------------------------------------------------------------------------------------------------------- configuration
slurm_conf() {
  cat <<CONF
ClusterName=mlxp
SlurmctldHost=$host($address)
SlurmctldPort=$port
SlurmUser=slurm
AuthType=auth/munge
# cred_expire is also how long a requeued job waits before it may start again (default 120 s)
AuthInfo=socket=$munge_socket,cred_expire=10
${listen:+CommunicationParameters=$listen}
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldPidFile=$dir/run/slurmctld.pid
SlurmdPidFile=$dir/run/slurmd.%n.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.%n.log

# a container will do: no cgroup, no affinity, no mail, no MPI
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
MpiDefault=none
PlugStackConfig=$dir/etc/plugstack.conf
MailProg=/bin/true
PropagateResourceLimits=NONE

# several jobs on a node; more CPUs and memory than the machine has (config_overrides), as nobody here computes much
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
DefMemPerCPU=1000
ReturnToService=2

# quick enough for tests: by default a job waits for up to 3 s even on an idle cluster
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,default_queue_depth=200
SlurmctldTimeout=30
SlurmdTimeout=30
InactiveLimit=0
KillWait=5
MinJobAge=300

AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=$address
AccountingStoragePort=$((port + 900))
AccountingStoragePass=$munge_socket
AccountingStorageEnforce=associations,limits,qos
AccountingStoreFlags=job_comment,job_script

NodeName=n[1-$nodes] NodeHostname=$host NodeAddr=$address Port=[$((port + 1))-$((port + nodes))] CPUs=$cpus RealMemory=$((cpus * 2000)) State=UNKNOWN
# jobs of "urgent" take the place of those in "requeued" and "cancelled"
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=DEFAULT Nodes=ALL DefaultTime=60 MaxTime=INFINITE State=UP PreemptMode=OFF
PartitionName=main Default=YES PriorityTier=5
PartitionName=urgent PriorityTier=9
PartitionName=requeued PriorityTier=1 PreemptMode=REQUEUE GraceTime=0
PartitionName=cancelled PriorityTier=1 PreemptMode=CANCEL GraceTime=0
CONF
}
slurm_conf >"$SLURM_CONF.new"
if cmp -s "$SLURM_CONF.new" "$SLURM_CONF" && up >/dev/null 2>&1; then
  rm -f "$SLURM_CONF.new"
  say "is up already"
  print_line
  exit
fi

# All or nothing: what is there in parts, stuck, or differently configured, goes first; and on failure so do we.
bash "$here/slurm_down.sh" 3>&-
trap 'bash "$here/slurm_down.sh" 3>&- || true' EXIT
mv "$SLURM_CONF.new" "$SLURM_CONF"
for p in $(seq "$port" $((port + nodes))) $((port + 900)); do
  ! (: <>"/dev/tcp/$address/$p") 2>/dev/null || die "port $p is in use by something else (set MLXP_SLURM_PORT)"
done
rm -f "$dir"/log/*.log "$dir"/log/*.out "$munge_socket"*
# with autodetect, slurmd does not start where /sys/fs/cgroup is empty or read-only, although nothing here uses cgroups
echo 'CgroupPlugin=cgroup/v1' >"$dir/etc/cgroup.conf"
# PBS_JOBID, PBS_ARRAY_INDEX and the like in jobs, as on a site that has TORQUE's commands
echo 'required spank_pbs.so' >"$dir/etc/plugstack.conf"
cat >"$dir/etc/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$munge_socket
DbdHost=$host
DbdAddr=$address
DbdPort=$((port + 900))
${listen:+CommunicationParameters=NoInAddrAny}
SlurmUser=slurm
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StorageLoc=slurm_acct_db
PidFile=$dir/run/slurmdbd.pid
LogFile=$dir/log/slurmdbd.log
CONF
chown slurm: "$dir/etc/slurmdbd.conf"
chmod 600 "$dir/etc/slurmdbd.conf"

# -------------------------------------------------------------------------------------------------------------- daemons
# Each has the state directory in its command line: that is how slurm_down.sh knows them.
ln -s "$dir/munge/munged.log" "$dir/log/munged.log" # munged may not write into that folder
slurm_daemon munged runuser -u munge -- munged --force --key-file="$dir/munge/key" --socket="$munge_socket" \
  --pid-file="$dir/run/munge/pid" --log-file="$dir/munge/munged.log" --seed-file="$dir/munge/seed"
await 10 munged munge_answers

if [[ ! -d $dir/mysql/mysql ]]; then
  mariadb-install-db --no-defaults --user=mysql --datadir="$dir/mysql" --auth-root-authentication-method=socket \
    --skip-test-db --innodb-log-file-size=8M </dev/null >"$dir/log/mariadb.install.log" 2>&1 3>&- 9>&- || {
    rm -rf "$dir/mysql" # a half of it would be taken for a database by the next call
    die "mariadb-install-db failed" "$dir/log/mariadb.install.log"
  }
fi
slurm_daemon mariadb setsid --fork mariadbd --no-defaults --user=mysql --datadir="$dir/mysql" --socket="$sql_socket" \
  --pid-file="$dir/run/mysql/pid" --skip-networking --innodb-log-file-size=8M --innodb-buffer-pool-size=64M \
  --innodb-flush-log-at-trx-commit=0 --innodb-lock-wait-timeout=900 # without --log-error it logs to stderr
await 60 mariadb sql_answers
mariadb --no-defaults -S "$sql_socket" -e "
  create database if not exists slurm_acct_db;
  create user if not exists slurm@localhost identified via unix_socket;
  grant all on slurm_acct_db.* to slurm@localhost;"

# slurmdbd takes no path: its own name carries it
# shellcheck disable=SC2016
slurm_daemon slurmdbd bash -c 'exec -a "$0" slurmdbd' "slurmdbd $dir/etc/slurmdbd.conf"
await 60 slurmdbd slurmdbd_answers
has() { [[ -n $(sacctmgr -n show "$@") ]]; }
add() { sacctmgr -i add "$@" >/dev/null; }
has cluster mlxp || add cluster mlxp
has account lab || add account lab
for name in root "$user"; do
  has assoc user="$name" account=lab || add user "$name" account=lab defaultaccount=lab
done

slurm_daemon slurmctld slurmctld -f "$SLURM_CONF"
await 30 slurmctld slurmctld_answers
squeue -h -o %A | sort -u | xargs -r scancel # of a cluster that was killed with jobs in its queue
for ((i = 1; i <= nodes; i++)); do
  mkdir -p "$dir/spool/n$i"
  slurm_daemon "slurmd.n$i" slurmd -f "$SLURM_CONF" -N "n$i"
done
await 60 slurmd nodes_ready

trap - EXIT
say "$nodes nodes of $cpus CPUs are up after $SECONDS s"
print_line
