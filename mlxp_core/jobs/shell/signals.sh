# shellcheck shell=sh disable=SC2034,SC2154,SC2329
# Hands on the signals that script.sh gets, in bash and in dash. A shell that waits for a program in the foreground gets
# to its traps only when that has ended; one that waits in the background loses the exit code of a child that ends by
# the same signal (bash 5.2 then says -1). So there are two: this one listens, one in its background waits for the
# job's lines and notes their exit code.
# Set above: mlxp_options, mlxp_pid, mlxp_end, MLXP_ATTEMPT. The options of the job's lines may forbid to overwrite: >|

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
