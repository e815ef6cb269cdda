# shellcheck shell=sh disable=SC2154
# Keeps how the job's lines ended.
# Set above: mlxp_metadata, mlxp_code, mlxp_requeue (a command; empty where the header does not ask for another start).

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
