#!/usr/bin/env bash
# The whole way on a machine with nothing but Python >= 3.10 and git: environment, sweep of 6 jobs, table.
#
#   bash example_app/run.sh [arguments for the sweep…]
#
#   PYTHON         the interpreter                default: python3
#   EXAMPLE_VENV   its virtual environment        default: example_app/.venv
#   EXAMPLE_LOGS   the log directory              default: example_app/logs
set -euo pipefail
unset CDPATH PYTHONPATH
cd "$(dirname "${BASH_SOURCE[0]}")"
python=${PYTHON:-python3}
venv=${EXAMPLE_VENV:-$PWD/.venv}
logs=${EXAMPLE_LOGS:-$PWD/logs}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
  echo "run.sh: $python is older than Python 3.10; set PYTHON to another one" >&2
  exit 1
}
if ! "$venv/bin/python" -c 'import mlxp_core' 2>/dev/null; then
  echo "== installing hydra-mlxp into $venv"
  "$python" -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check ..
fi

snapshot=auto
if ! git -C . rev-parse --verify --quiet HEAD >/dev/null 2>&1; then
  echo "== this is no git repository (a source archive?), so the jobs run the files in place"
  snapshot=none
fi

echo "== 6 jobs: 2 learning rates, 3 seeds"
"$venv/bin/python" main.py -m hydra/launcher=mlxp_local hydra.launcher.wait=true \
  "hydra.launcher.snapshot=$snapshot" "hydra.launcher.log_dir='${logs//\'/\\\'}'" \
  optimizer.lr=0.01,0.1 seed=1,2,3 "$@"

echo "== python read.py"
"$venv/bin/python" read.py "$logs"
