#!/usr/bin/env bash
# Starts a real OAR on this one machine, with its database and the node's sshd, from Debian's packages.
#
#   eval "$(tests/clusters/oar_up.sh)"     oarsub, oarstat and oardel need nothing else: they read /etc/oar/oar.conf
#   tests/clusters/oar_up.sh --check       only says whether it runs (exit code, same line on stdout)
#
# Needs root. Installs what is missing and starts what does not answer; a second call changes nothing. stdout is that
# one line, all else goes to stderr. MLXP_OAR_DIR, _RESOURCES, _PORT override the defaults below. See README.md.
set -euo pipefail
umask 022
unset CDPATH
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dir=$(realpath -m "${MLXP_OAR_DIR:-${TMPDIR:-/tmp}/mlxp-clusters/oar}")
resources=${MLXP_OAR_RESOURCES:-8}
port=${MLXP_OAR_PORT:-16666} # OAR's server; then the node's sshd, and PostgreSQL
node=localhost
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$here/common.sh"

packages=(oar-server oar-server-pgsql oar-user oar-user-pgsql oar-node libjson-perl libyaml-perl postgresql openssh-server)
conf=/etc/oar/oar.conf # wired into the setuid programs that the commands are
original=$conf.before-mlxp-clusters

oar() { timeout 20 "$@"; }
listens() { (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# ------------------------------------------------------------------------------------------------ what is asked of each
sql_answers() { listens $((port + 2)) && oar oar-database --check; }
sshd_answers() { listens $((port + 1)); }
server_answers() { listens "$port"; }
alive() { oar oarnodes --sql "state = 'Alive'" | grep -c '^ *network_address *:'; }
resources_ready() { # making those alive that a job, which could not be started, has left "Suspected"
  (($(alive) == resources)) || { oar oarnodesetting -h "$node" -s Alive && (($(alive) == resources)); }
}
answers() { grep -qxF "# mlxp-clusters $dir" "$conf" && sql_answers && sshd_answers && server_answers; }
print_line() { printf 'export MLXP_OAR_DIR=%q\n' "$dir" >&3; }

if [[ ${1:-} == --check ]]; then
  [[ -e $original ]] && answers >/dev/null 2>&1 && print_line
  exit
fi
(($# == 0)) || die "unknown argument: $1 (the only one is --check)"
((EUID == 0)) || die "must be root: OAR's server and database are users of their own"
[[ $dir != *[[:space:]\"\$]* ]] || die "no blank, quote or dollar may be in the state directory: $dir (set MLXP_OAR_DIR)"
lock
install "${packages[@]}"
make_user
postgres=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)

# ------------------------------------------------------------------------------------------------------- configuration
contents() { # of all that decides what runs: another call with the same finds it up
  echo "$dir $resources $port"
  cat "$here/oar_up.sh"
}
if [[ -s $dir/contents ]] && cmp -s "$dir/contents" <(contents) && answers >/dev/null 2>&1 && resources_ready >/dev/null 2>&1; then
  say "is up already"
  print_line
  exit
fi

# All or nothing: what is there in parts, stuck, or differently configured, goes first; and on failure so do we.
bash "$here/oar_down.sh" 3>&-
trap 'bash "$here/oar_down.sh" 3>&- || true' EXIT
for p in "$port" $((port + 1)) $((port + 2)); do
  ! listens "$p" || die "port $p is in use by something else (set MLXP_OAR_PORT)"
done
mkdir -p "$dir"/{etc,log}
rm -f "$dir"/log/*.out "$dir"/log/*.log
chown oar: "$dir/log"
runuser -u "$user" -- test -x "$dir/etc" || die "other users cannot reach the state directory: $dir (set MLXP_OAR_DIR)"

# SERVER_HOSTNAME: what is called localhost or 127… makes a job call back the name of the machine, which may lead
# elsewhere; in capitals it is the same address. PINGCHECKER: no ssh before each job. Without
# JOB_RESOURCE_MANAGER_PROPERTY_DB_FIELD no cgroup is touched: a container will do.
settings() {
  cat <<CONF
DB_TYPE="Pg"
DB_HOSTNAME="127.0.0.1"
DB_PORT="$((port + 2))"
DB_BASE_NAME="oar"
DB_BASE_LOGIN="oar"
DB_BASE_PASSWD="oar"
DB_BASE_LOGIN_RO="oar_ro"
DB_BASE_PASSWD_RO="oar_ro"
SERVER_HOSTNAME="LOCALHOST"
SERVER_PORT="$port"
OPENSSH_CMD="/usr/bin/ssh -p $((port + 1)) -e none"
PINGCHECKER_GENERIC_COMMAND="/bin/true"
FINAUD_FREQUENCY="0"
SCHEDULER_JOB_SECURITY_TIME="1"
SCHEDULER_GANTT_HOLE_MINIMUM_TIME="1"
SCHEDULER_MIN_TIME_BETWEEN_2_CALLS="1"
OARSUB_DEFAULT_RESOURCES="/resource_id=1"
LOG_LEVEL="3"
LOG_FILE="$dir/log/oar.log"
CONF
}
[[ -e $original ]] || cp -p "$conf" "$original"
ours=$(settings | cut -d= -f1 | paste -sd '|')
{
  grep -vE "^[[:space:]]*($ours|JOB_RESOURCE_MANAGER_PROPERTY_DB_FIELD|PINGCHECKER_[A-Z_]*)=" "$original"
  echo "# mlxp-clusters $dir"
  settings
} >"$conf"
chown oar:root "$conf"
chmod 600 "$conf"
# its server listens on every interface and has no option for that: a copy, changed
# shellcheck disable=SC2016  # a variable of theirs
sed -E 's/(IO::Socket::INET->new\()(LocalPort *=> *\$serverport)/\1LocalAddr => "127.0.0.1", \2/' /usr/lib/oar/Almighty >"$dir/Almighty"
grep -q 'LocalAddr => "127.0.0.1"' "$dir/Almighty" || die "this version of OAR opens its port in another way: /usr/lib/oar/Almighty"
chmod 755 "$dir/Almighty"
[[ -s /etc/oar/oar_ssh_host_rsa_key ]] || ssh-keygen -q -t rsa -N '' -f /etc/oar/oar_ssh_host_rsa_key
{
  grep -vE '^(UsePrivilegeSeparation|KeepAlive|ListenAddress|Port|PidFile)' /etc/oar/sshd_config
  printf 'Port %s\nListenAddress 127.0.0.1\nPidFile none\n' $((port + 1))
} >"$dir/etc/sshd_config"

# -------------------------------------------------------------------------------------------------------------- daemons
# Each has the state directory in its command line: that is how oar_down.sh knows them.
ulimit -n 4096 2>/dev/null || true # OAR's programs close every file that they might have: up to the limit
if [[ ! -s $dir/pg/PG_VERSION ]]; then
  rm -rf "$dir/pg"
  mkdir -m 700 "$dir/pg"
  echo oar >"$dir/etc/password"
  chown postgres: "$dir/pg"
  (cd / && runuser -u postgres -- "$postgres/initdb" -D "$dir/pg" -U postgres --pwfile="$dir/etc/password" -A scram-sha-256 -E UTF8 \
    --locale=C --no-sync) </dev/null >"$dir/log/initdb.out" 2>&1 3>&- 9>&- || {
    rm -rf "$dir/pg" # a half of it would be taken for a database by the next call
    die "initdb failed" "$dir/log/initdb.out"
  }
fi
rm -f "$dir/pg/postmaster.pid" # of one that was killed
daemon postgres setsid --fork setpriv --reuid postgres --regid postgres --init-groups "$postgres/postgres" -D "$dir/pg" -p $((port + 2)) -c listen_addresses=127.0.0.1 \
  -c unix_socket_directories= -c fsync=off -c max_connections=300
await 30 postgres listens $((port + 2))
if ! oar oar-database --check >/dev/null 2>&1; then
  timeout 120 oar-database --create --db-admin-user=postgres --db-admin-pass=oar </dev/null >"$dir/log/oar-database.out" 2>&1 3>&- 9>&- || true
  await 10 oar-database sql_answers
fi

mkdir -p /run/sshd
daemon sshd /usr/sbin/sshd -f "$dir/etc/sshd_config" -E "$dir/log/sshd.log"
await 10 sshd sshd_answers

# jobs of an OAR that was killed with some in its queue
oar oarstat -J 2>/dev/null | sed -nE 's/^   "([0-9]+)".*/\1/p' | xargs -r timeout 20 oardel >/dev/null 2>&1 || true
# as /usr/sbin/Almighty would start it
daemon Almighty OARDIR=/usr/lib/oar OARCONFFILE="$conf" OARUSER=oar OARDO_USER=oar OARDO_UID="$(id -u oar)" HOME=/var/lib/oar \
  PATH="/bin:/sbin:/usr/bin:/usr/sbin:/usr/lib/oar/oardodo" setsid --fork setpriv --reuid oar --regid oar --init-groups "$dir/Almighty"
await 30 Almighty server_answers

properties=$(oar oarproperty -l)
for property in core cpu gpumem gpu host gpumodel; do
  ! grep -qx "$property" <<<"$properties" || continue
  text=() # a number, unless told otherwise
  [[ $property != host && $property != gpumodel ]] || text=(-c)
  oar oarproperty "${text[@]}" -a "$property" >>"$dir/log/resources.out" 2>&1 || die "oarproperty -a $property failed" "$dir/log/resources.out"
done
have=$(oar oarnodes | grep -c '^ *network_address *:' || true)
for ((i = have + 1; i <= resources; i++)); do
  oar oarnodesetting -a -h "$node" -p host="$node" -p cpu=1 -p core="$i" -p cpuset=$((i - 1)) -p gpu="$i" \
    -p gpumem=$((i > resources / 2 ? 32000 : 16000)) -p gpumodel=V100 >>"$dir/log/resources.out" 2>&1 ||
    die "oarnodesetting failed" "$dir/log/resources.out"
done
await 30 resources resources_ready

contents >"$dir/contents"
trap - EXIT
say "$resources resources are up after $SECONDS s"
print_line
