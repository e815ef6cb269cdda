#!/usr/bin/env bash
# Checks the project on a machine that has nothing but Python >= 3.10 and git: lint, format, types, tests.
#
#   bash tests/run.sh [--thorough] [--clusters] [--keep] [--coverage] [PACKAGE…] [pytest arguments…]
#
#   PACKAGE      tests of one package, a folder of tests/: runs, jobs, reader, plugins, …             default: all tests
#                Alone: only what starts no programs of a project, some seconds; with pytest arguments, or --thorough: all
#   pytest arguments: paths start at the repository, such as tests/jobs/test_wait.py; or -k 'name', -x, …
#
#   --thorough   also what takes long and seldom breaks: packaging, every fake scheduler, all random examples
#   --clusters   also the tests against a real Slurm (and TORQUE's commands on it), Grid Engine and OAR, installed and
#                started here (needs root and Debian or Ubuntu); those that are up already are used, and left up
#   --keep       also leave up what was started here, for the next --clusters; tests/clusters/…_down.sh stops it
#   --coverage   which lines and branches the tests reach, their subprocesses and jobs included; `.venv/bin/coverage html`
#                shows them in htmlcov/
#   --help       this text
#
#   PYTHON       the interpreter                     default: python3, or else the first python3.x that is new enough
#   MLXP_VENV    its virtual environment             default: .venv in the repository
#   MLXP_HYDRA   a version of hydra-core, for the tests of what touches Hydra, in an environment of its own
#                                                    default: the newest 1.3, for all tests
#   MLXP_WORKERS how many tests run side by side      default: 4; 0, one after the other, where all took 10 s last time
#   CI=true      means --clusters, --thorough, a line a package, and what touches Hydra a second time, with the candidate of Hydra 1.4
#
# What failed last time runs first.
# shellcheck disable=SC2317,SC2329  # check() calls what looks unreachable
set -euo pipefail
# a Python that may not keep its byte code compiles this project at each of the thousands of starts
unset CDPATH PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE MLXP_TEST_CLUSTERS
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
next_hydra=1.4.0rc3
pytest_options=(-n "${MLXP_WORKERS:-auto}" --dist loadgroup --failed-first)
ci=""
[[ ${CI:-} != true ]] || ci=yes
clusters=$ci thorough=$ci coverage="" keep=""
while (($#)); do
  case $1 in
    --clusters) clusters=yes ;;
    --keep) keep=yes ;;
    --thorough) thorough=yes ;;
    --coverage) coverage=yes ;;
    --help | -h) exec sed -n '2,/^# What failed/s/^# \{0,1\}//p' tests/run.sh ;;
    *) break ;;
  esac
  shift
done
export MLXP_THOROUGH=$thorough # to helpers/examples.py
packages=()
# up to the first option: what follows may be its value
while [[ ${1:-} && -d tests/$1 && ! -e $1 ]]; do
  packages+=("tests/$1")
  shift
done
quick=""
if (($# == 0)) && [[ ${packages[*]} && ! $thorough && " ${packages[*]} " != *" tests/end_to_end "* ]]; then quick=yes; fi
set -- "${packages[@]}" "$@"
# what a second Hydra may change: programs of Hydra's, and what reads its configurations; schedulers are the same to it
with_hydra=(tests/plugins tests/sweeps tests/mlxpsub tests/cli tests/jobs/test_wait.py tests/jobs/test_submit_trouble.py
  tests/versioning/test_version_of_every_run.py tests/end_to_end -k "not fake_")
failed="" code=0
temporary=$(mktemp -d)
ours=()
declare -A starting=()
# those that need a cluster fail without it: where none was asked for, they are left out
without_clusters="not slurm and not sge and not oar and not torque"
selection=""
[[ $clusters ]] || selection=$without_clusters
[[ $thorough ]] || selection+="${selection:+ and }not thorough"
[[ ! $quick ]] || selection+=" and not program"
trap take_down EXIT

say() { printf '\n== %s\n' "$*"; }

die() {
  printf 'run.sh: %s\n' "$*" >&2
  exit 1
}

check() { # check NAME COMMAND…: the first failure gives the exit code, but the others are to be seen too
  local name=$1 answer=0
  shift
  say "$name"
  "$@" || answer=$?
  ((answer == 0)) || failed+="${failed:+, }$name"
  ((code)) || code=$answer
}

suitable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; }

find_python() {
  local candidate
  if [[ -n ${PYTHON:-} ]]; then
    suitable "$PYTHON" || die "PYTHON=$PYTHON does not run, or is older than Python 3.10"
    echo "$PYTHON"
    return
  fi
  for candidate in python3 python3.13 python3.12 python3.11 python3.10 python3.14; do
    ! suitable "$candidate" || { echo "$candidate" && return; }
  done
  die "needs Python 3.10 or newer, and finds none on PATH: install one, or set PYTHON"
}

can_make_venvs() { "$python" -c 'import ensurepip, venv' 2>/dev/null; }

install_missing_tools() { # git, git-lfs for one test, and the part of Python that Debian splits off; by ourselves only in CI
  command -v git >/dev/null && can_make_venvs && { [[ ! $ci ]] || command -v git-lfs >/dev/null; } && return
  if [[ $ci ]] && ((EUID == 0)) && command -v apt-get >/dev/null; then
    local packages=(git git-lfs python3-venv)
    say "apt-get install ${packages[*]}"
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}"; } \
      </dev/null >"$temporary/apt" 2>&1 || tail -n 20 "$temporary/apt"
  fi
  command -v git >/dev/null || die "needs git"
  can_make_venvs || die "$python cannot make virtual environments: its venv or ensurepip is missing (on Debian and Ubuntu: apt-get install python3-venv)"
}

make_venv() { # make_venv FOLDER HYDRA: what is there already, and still fits, stays
  local venv=$1 hydra=$2 maker contents log=$temporary/install
  maker="$root $("$python" -c 'import sys; print(sys.base_prefix, sys.version)')"
  contents="$maker $hydra $(cat setup.cfg pyproject.toml | cksum)"
  # an environment that this function made, but elsewhere or with another Python; never one that somebody else made
  if [[ -e $venv/.maker && $(<"$venv/.maker") != "$maker" ]]; then rm -rf "$venv"; fi
  [[ ! -e $venv/.contents || $(<"$venv/.contents") != "$contents" ]] || return 0
  say "installing into $venv"
  if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    "$python" -m venv "$venv" >"$log" 2>&1 || { cat "$log" && return 1; }
    echo "$maker" >"$venv/.maker"
  fi
  # hydra-core by name: other plugins name pre-releases of it, and would let pip choose one
  "$venv/bin/python" -m pip install --disable-pip-version-check --editable '.[test]' "hydra-core==$hydra" \
    </dev/null >"$log" 2>&1 || { cat "$log" && return 1; }
  echo "$contents" >"$venv/.contents"
}

test_with_hydra() { # test_with_hydra VERSION [pytest arguments…]
  local venv=${MLXP_VENV:-.venv}/hydra-$1 version=$1 chosen=$without_clusters
  shift
  (($#)) || set -- "${with_hydra[@]}"
  [[ $thorough ]] || chosen+=" and not thorough"
  make_venv "$venv" "$version" && env -u MLXP_TEST_CLUSTERS "$venv/bin/python" -m pytest "${pytest_options[@]}" -m "$chosen" "$@"
}

run_tests() { # run_tests [pytest arguments…]
  local answer=0
  if [[ ! $coverage ]]; then
    "$venv/bin/python" -m pytest "${pytest_options[@]}" "$@" || answer=$?
    return "$answer"
  fi
  "$venv/bin/python" -m coverage erase
  "$venv/bin/python" -m coverage run -m pytest "${pytest_options[@]}" "$@" || answer=$?
  "$venv/bin/python" -m coverage combine --quiet
  "$venv/bin/python" -m coverage report
  return "$answer"
}

start_clusters() { # in the background: they take as long as an environment does
  local name
  for name in slurm sge oar; do
    bash "tests/clusters/${name}_up.sh" --check >/dev/null 2>&1 || ours+=("$name")
    bash "tests/clusters/${name}_up.sh" >"$temporary/$name" 2>"$temporary/$name.log" </dev/null &
    starting[$name]=$!
  done
  export MLXP_TEST_CLUSTERS="slurm sge oar torque" # torque's commands come with slurm
}

take_down() { # what this run started, not what it found
  local name
  if [[ $keep && ${ours[*]} ]]; then
    say "left up: ${ours[*]}; stopped by: for name in ${ours[*]}; do bash tests/clusters/\${name}_down.sh; done"
  else
    for name in "${ours[@]}"; do bash "tests/clusters/${name}_down.sh" || true; done
  fi
  rm -rf "$temporary"
}

is_up() { # is_up CLUSTER
  local answer=0
  wait "${starting[$1]}" || answer=$?
  cat "$temporary/$1.log"
  ((answer == 0)) || return "$answer"
  eval "$(<"$temporary/$1")"
}

python=$(find_python)
install_missing_tools
[[ ! $clusters ]] || start_clusters

if [[ ${MLXP_HYDRA:-} ]]; then
  check "pytest with hydra-core $MLXP_HYDRA" test_with_hydra "$MLXP_HYDRA" "$@"
else
  venv=${MLXP_VENV:-.venv}
  make_venv "$venv" '1.3.*' || die "the installation failed"
  check "ruff check" "$venv/bin/python" -m ruff check --quiet
  check "ruff format" "$venv/bin/python" -m ruff format --quiet --check
  check mypy "$venv/bin/python" -m mypy
  mapfile -t shell < <(find .ci example_app mlxp_core tests \( -name .venv -o -name logs -o -name recorded \) -prune -o \
    \( -name '*.sh' -o -path .ci/run \) -print 2>/dev/null)
  check shellcheck "$venv/bin/shellcheck" "${shell[@]}"
  # while the clusters start
  [[ ! $ci ]] || check "pytest with hydra-core $next_hydra" test_with_hydra "$next_hydra" "$@"
  if [[ $clusters ]]; then
    for name in slurm sge oar; do check "$name" is_up "$name"; done
  fi
  check pytest run_tests ${selection:+-m "$selection"} "$@"
fi

[[ $ci || ${MLXP_HYDRA:-} ]] || (($#)) || say "not run: the tests with hydra-core $next_hydra, by MLXP_HYDRA=$next_hydra bash tests/run.sh"
say "${failed:+FAILED: }${failed:-all checks passed}"
exit "$code"
