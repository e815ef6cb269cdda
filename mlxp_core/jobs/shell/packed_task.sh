# shellcheck shell=sh disable=SC2154,SC2329
# A job, or a task of an array, for several runs side by side.
# Set above: mlxp_manifest, mlxp_first, mlxp_size (how many runs), mlxp_requeue (as in outcome.sh).

set +e # of a first line such as `#!/bin/bash -e`: one run that fails is not to end the others
mlxp_signal() {
  mlxp_signalled=yes
  for mlxp_child in $mlxp_children; do kill -s "$1" "$mlxp_child" 2>/dev/null; done
}
trap 'mlxp_signal TERM' TERM
trap 'mlxp_signal USR1' USR1
trap 'mlxp_signal USR2' USR2
export MLXP_PACKED=1
mlxp_children=''
# a run that was complete before its job was started again is not run again; one that was asked to stop, and left in an
# orderly way, has an exit code of 0 as well
while IFS= read -r mlxp_run <&3; do
  case $(cat "$mlxp_run/metadata/exit_code" 2>/dev/null) in
    "0 "*) grep -qsx 'status: PREEMPTED' "$mlxp_run/metadata/info.yaml" || continue ;;
  esac
  mlxp_start "$mlxp_run" </dev/null 3<&- &
  mlxp_children="$mlxp_children $!"
done 3<<mlxp_end
$(sed -n "${mlxp_first},$((mlxp_first + mlxp_size - 1))p" "$mlxp_manifest")
mlxp_end
mlxp_code=0
for mlxp_child in $mlxp_children; do
  mlxp_ended=''
  while :; do # a signal ends the wait, and not the child; what is asked for once more may be known no longer (127)
    mlxp_signalled=''
    wait "$mlxp_child"
    mlxp_answer=$?
    [ "$mlxp_answer" = 127 ] && [ -n "$mlxp_ended" ] || mlxp_ended=$mlxp_answer
    [ -n "$mlxp_signalled" ] || break
  done
  [ "$mlxp_ended" = 0 ] || [ "$mlxp_code" = 99 ] || mlxp_code=$mlxp_ended
done
if [ "$mlxp_code" = 99 ]; then # a run was asked to stop, and wants another start of the job
  if [ -z "$mlxp_requeue" ] || eval "$mlxp_requeue"; then exit 75; fi # EX_TEMPFAIL
fi
exit "$mlxp_code"
