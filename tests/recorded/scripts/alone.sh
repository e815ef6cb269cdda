#!/bin/bash
#SBATCH --job-name=main-12
#SBATCH --output="/logs/12/log.stdout"
#SBATCH --error="/logs/12/log.stderr"
#SBATCH --open-mode=append

# run 12 of /logs; `bash script.sh` runs it again
mlxp_metadata=/logs/12/metadata mlxp_job_id=${SLURM_JOB_ID:-}
mlxp_start="$(date +%Y-%m-%dT%H:%M:%S%z) $(uname -n) $$ $mlxp_job_id"
echo "$mlxp_start" >>"$mlxp_metadata/starts" || : # also where the shell stumbles over what follows
for mlxp_turn in watch job; do if [ "$mlxp_turn" = job ]; then (mlxp_outlive; (mlxp_begin

export PYTHONPATH=/copy
cd /copy || exit
exec python main.py lr=1

# ---- from here on, what hydra-mlxp adds: it counts attempts, hands on signals and keeps the exit code ----
); mlxp_note) <&7 7<&- & else
mlxp_requeue=''
mlxp_options=$-
set +e
rm -f "$mlxp_metadata/exit_code"
MLXP_ATTEMPT=$(grep -nxF -e "$mlxp_start" "$mlxp_metadata/starts" | tail -n 1)
export MLXP_ATTEMPT="${MLXP_ATTEMPT%%:*}"
mlxp_pid="$mlxp_metadata/.pid.$MLXP_ATTEMPT.$$" mlxp_end="$mlxp_metadata/.end.$MLXP_ATTEMPT.$$"

mlxp_job='' mlxp_early='' mlxp_code=''
mlxp_pass() { # mlxp_pass SIGNAL: to the program, once it is there
  if [ -z "$mlxp_job" ]; then mlxp_early="$mlxp_early $1"; return; fi
  while [ ! -s "$mlxp_end" ] && kill -0 "$mlxp_job" 2>/dev/null; do
    mlxp_to='' mlxp_still=''
    { read -r mlxp_to <"$mlxp_pid"; } 2>/dev/null
    case $mlxp_to in
      -) return ;; # the program has ended
      "") sleep 0.05 ;;
      *)
        kill -s "$1" "$mlxp_to" 2>/dev/null
        { read -r mlxp_still <"$mlxp_pid"; } 2>/dev/null
        if [ "$mlxp_still" = "$mlxp_to" ]; then return; fi
        ;;
    esac
  done
}
trap 'mlxp_pass HUP' HUP
trap 'mlxp_pass TERM' TERM
trap 'mlxp_pass USR1' USR1
trap 'mlxp_pass USR2' USR2
# Ctrl-C reaches all processes, in bash the program itself; in dash what runs in the background cannot have it
if [ -n "${BASH_VERSION:-}" ]; then trap : INT; else trap 'mlxp_pass TERM' INT; fi
# dash takes stdin away from what runs in the background
{ command exec 7<&0; } 2>/dev/null || exec 7</dev/null

mlxp_outlive() { trap : HUP INT TERM USR1 USR2; } # of a shell that waits for another
mlxp_receive() { # of a shell whose place the program takes
  if [ -n "${BASH_VERSION:-}" ]; then trap - INT; fi
  sh -c 'echo $PPID' >|"$mlxp_pid"
}
mlxp_begin() { # the job's lines
  mlxp_receive
  case $mlxp_options in *e*) set -e ;; esac
}
mlxp_yield() { # to the program, in a shell of its own: more lines come after it
  : >|"$mlxp_pid"
  mlxp_outlive
}
mlxp_return() { # mlxp_return DIRECTORY: to where the lines before the program were, with the exit code of the program
  mlxp_code=$?
  echo - >|"$mlxp_pid"
  cd "$1" || :
  return "$mlxp_code"
}
mlxp_note() { echo "$? $MLXP_ATTEMPT" >"$mlxp_end"; }
fi; done
mlxp_job=$!
for mlxp_signal in $mlxp_early; do mlxp_pass "$mlxp_signal"; done
while [ ! -s "$mlxp_end" ] && kill -0 "$mlxp_job" 2>/dev/null; do wait "$mlxp_job"; mlxp_code=$?; done
if [ -s "$mlxp_end" ]; then read -r mlxp_code _ <"$mlxp_end"; fi
rm -f "$mlxp_end" "$mlxp_pid"

mlxp_exit=$mlxp_code
mlxp_says() { grep -qsx -e "$1" "$mlxp_metadata/info.yaml"; }
if mlxp_says 'status: PREEMPTED' && mlxp_says "attempt: $MLXP_ATTEMPT"; then
  mlxp_exit=75 # EX_TEMPFAIL: jobs that depend on this one's success do not start
  # after a warning; at SIGTERM the scheduler itself ends the job, or starts it again
  if [ -n "$mlxp_requeue" ] && mlxp_says 'stop_signal: SIGUSR[12]'; then
    if [ -n "${MLXP_PACKED:-}" ]; then exit 99; fi # to the script that has packed several runs into one job
    eval "$mlxp_requeue" && exit "$mlxp_exit"
    echo "mlxp: this job could not be requeued" >&2
  fi
fi
echo "$mlxp_code $MLXP_ATTEMPT" >"$mlxp_metadata/.exit_code"
mv -f "$mlxp_metadata/.exit_code" "$mlxp_metadata/exit_code"
exit "$mlxp_exit"
