# shellcheck shell=bash disable=SC2034,SC2154  # the one who sources it sets dir, and uses user, host and address
# What slurm_up.sh, sge_up.sh and oar_up.sh do alike; each sources it after it has set $dir, its state directory.
#
# stdout is the caller's eval, so it becomes file descriptor 3 and all else goes to stderr; 9 is the lock on $dir.

export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
user=mlxp-test # an unprivileged account that may submit
me=${0##*/}
exec 3>&1 1>&2

say() { printf '%s: %s\n' "$me" "$*" >&2; }

die() { # die MESSAGE [LOG…]: with the end of the logs concerned
  say "$1"
  shift
  (($# == 0)) || tail -n 20 -- "$@" >&2 || true
  exit 1
}

await() { # await SECONDS NAME COMMAND…: until the command succeeds; NAME is also that of the daemon's logs
  local limit=$1 name=$2 end=$((SECONDS + $1))
  shift 2
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || die "$name did not come up within $limit s" "$dir/log/$name".*
    sleep 0.1
  done
}

daemon() { # daemon NAME [VARIABLE=VALUE…] COMMAND…: in a clean environment, holding none of our files, lock and pipes
  local name=$1
  shift
  (cd "$dir" && exec env -i PATH="$PATH" LC_ALL=C "$@") </dev/null >>"$dir/log/$name.out" 2>&1 3>&- 9>&- ||
    die "$name did not start" "$dir/log/$name".*
}

lock() { # against another …_up.sh or …_down.sh of this state directory
  mkdir -p "$(dirname "$dir")"
  exec 9>"$dir.lock"
  flock -w 600 9 || die "another script has held $dir.lock for 10 minutes"
  export MLXP_CLUSTER_LOCKED=$dir # for …_down.sh, when called from here
  mkdir -p "$dir/log"
}

lock_apt() { # one script at a time, whatever its state directory: package lists and policy-rc.d are one for all
  exec 8>/run/mlxp-clusters-apt.lock
  flock -w 900 8 || die "another script has held /run/mlxp-clusters-apt.lock for 15 minutes"
}
unlock_apt() { exec 8>&-; }

apt_get() { # apt_get SECONDS ARGUMENT…
  local limit=$1
  shift
  DEBIAN_FRONTEND=noninteractive timeout "$limit" apt-get -o DPkg::Lock::Timeout=120 "$@" \
    </dev/null >>"$dir/log/apt.log" 2>&1 3>&- 8>&- 9>&-
}

install() { # install PACKAGE…: those that are missing, and without starting any daemon
  local package policy=/usr/sbin/policy-rc.d missing=()
  for package; do
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  command -v apt-get >/dev/null || die "no apt-get here: this script knows Debian and Ubuntu only; missing: ${missing[*]}"
  lock_apt
  say "apt-get install ${missing[*]}"
  if [[ ! -e $policy ]] || grep -q mlxp-clusters "$policy"; then # ours is there when an earlier call was killed
    # shellcheck disable=SC2064  # that very file
    trap "rm -f '$policy'" EXIT
    printf '#!/bin/sh\n# mlxp-clusters\nexit 101\n' >"$policy" && chmod 755 "$policy"
  fi
  apt_get 180 update || say "apt-get update failed (see $dir/log/apt.log); trying with the package lists that are there"
  apt_get 600 -o Dpkg::Options::=--force-confold install -y --no-install-recommends --no-remove "${missing[@]}" ||
    die "apt-get install failed" "$dir/log/apt.log"
  [[ ! -e $policy ]] || ! grep -q mlxp-clusters "$policy" || rm -f "$policy"
  trap - EXIT
  unlock_apt
}

make_user() { id "$user" >/dev/null 2>&1 || useradd -m -s /bin/bash "$user"; }

name_the_host() { # sets host, its name, and address, to which that name leads: one is made where it leads nowhere
  host=$(uname -n)
  host=${host%%.*}
  address=$(getent ahostsv4 "$host" | awk 'NR == 1 { print $1 }') || true
  [[ -z $address ]] || return 0
  if { echo "127.0.0.1 $host # mlxp-clusters" >>/etc/hosts; } 2>/dev/null; then
    address=127.0.0.1
  else
    say "the name of this machine, $host, leads to no address and /etc/hosts cannot be written"
  fi
}
