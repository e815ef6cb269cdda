#!/bin/bash
#LOCAL --job-name=main-7
#LOCAL --output="@ROOT@/a project/logs/7/log.stdout"
#LOCAL --error="@ROOT@/a project/logs/7/log.stderr"

# run 7 of @ROOT@/a project/logs; `bash script.sh` runs it again
mlxp_options=$-
set +e
mlxp_metadata='@ROOT@/a project/logs/7/metadata'
rm -f "$mlxp_metadata/exit_code"
# the attempts of the run, those too that end before their program is up
mlxp_start="$(date +%Y-%m-%dT%H:%M:%S%z) $(uname -n) $$ ${MLXP_LOCAL_JOB_ID:-}"
echo "$mlxp_start" >>"$mlxp_metadata/starts"
MLXP_ATTEMPT=$(grep -nxF -e "$mlxp_start" "$mlxp_metadata/starts" | tail -n 1)
export MLXP_ATTEMPT=${MLXP_ATTEMPT%%:*}
mlxp_pid="$mlxp_metadata/.pid.$MLXP_ATTEMPT.$$" mlxp_end="$mlxp_metadata/.end.$MLXP_ATTEMPT.$$"

mlxp_job= mlxp_early= mlxp_code=
mlxp_pass() {
  if [ -z "$mlxp_job" ]; then mlxp_early="$mlxp_early $1"; return; fi
  while [ ! -s "$mlxp_end" ] && kill -0 "$mlxp_job" 2>/dev/null; do
    mlxp_to= mlxp_still=
    { read -r mlxp_to <"$mlxp_pid"; } 2>/dev/null
    case $mlxp_to in
      -) return ;;  # the program has ended
      "") sleep 0.05 ;;
      *)
        kill -s "$1" "$mlxp_to" 2>/dev/null
        { read -r mlxp_still <"$mlxp_pid"; } 2>/dev/null
        if [ "$mlxp_still" = "$mlxp_to" ]; then return; fi
        ;;
    esac
  done
}
for mlxp_signal in HUP TERM USR1 USR2; do trap "mlxp_pass $mlxp_signal" "$mlxp_signal"; done
# Ctrl-C reaches all processes, in bash the program itself; in dash what runs in the background cannot have it
if [ -n "${BASH_VERSION:-}" ]; then trap : INT; else trap 'mlxp_pass TERM' INT; fi
# dash takes stdin away from what runs in the background
{ command exec 7<&0; } 2>/dev/null || exec 7</dev/null
(
trap : HUP INT TERM USR1 USR2
(
if [ -n "${BASH_VERSION:-}" ]; then trap - INT; fi
sh -c 'echo $PPID' >"$mlxp_pid"
case $mlxp_options in *e*) set -e ;; esac
export MLXP_MAIN=1
mlxp_cwd=$PWD
cd '@ROOT@/a project/logs/.mlxp/code/e3b73d422373a7108804f7be1860829535d2c722' || exit
exec @PYTHON@ '@ROOT@/a project/logs/.mlxp/code/e3b73d422373a7108804f7be1860829535d2c722/main.py' hydra/launcher=mlxp_local lr=16 needs=data/of_7 wait=True hydra.mode=RUN 'hydra.run.dir='"'"'@ROOT@/a project/logs/7'"'"'' 'hydra.sweep.dir='"'"'@ROOT@/a project/logs'"'"'' hydra.sweep.subdir=7 hydra.job.num=0 hydra.job.id=7
)
echo "$? $MLXP_ATTEMPT" >"$mlxp_end"
) <&7 7<&- &
mlxp_job=$!
for mlxp_signal in $mlxp_early; do mlxp_pass "$mlxp_signal"; done
while [ ! -s "$mlxp_end" ] && kill -0 "$mlxp_job" 2>/dev/null; do wait "$mlxp_job"; mlxp_code=$?; done
if [ -s "$mlxp_end" ]; then read -r mlxp_code mlxp_rest <"$mlxp_end"; fi
rm -f "$mlxp_end" "$mlxp_pid"

if grep -qsx -e "status: PREEMPTED" "$mlxp_metadata/info.yaml" && grep -qsx -e "attempt: $MLXP_ATTEMPT" "$mlxp_metadata/info.yaml"; then
  mlxp_left=75
fi
echo "$mlxp_code $MLXP_ATTEMPT" >"$mlxp_metadata/.exit_code"
mv -f "$mlxp_metadata/.exit_code" "$mlxp_metadata/exit_code"
exit "${mlxp_left:-$mlxp_code}"
