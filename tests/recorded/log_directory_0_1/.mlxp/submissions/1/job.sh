#!/bin/bash
#LOCAL --job-name=main-25d430
#LOCAL --output="@ROOT@/a project/logs/.mlxp/submissions/1/%a.out"
#LOCAL --error="@ROOT@/a project/logs/.mlxp/submissions/1/%a.out"
#LOCAL --array=1-2

# runs 1 to 2 of @ROOT@/a project/logs
mlxp_start() { # mlxp_start RUN: become its script
  if [ -s "$1/metadata/starts" ]; then
    mlxp_earlier=$1/metadata/attempts/$(($(wc -l <"$1/metadata/starts")))
    mkdir -p "$mlxp_earlier"
    for mlxp_log in log.stdout log.stderr; do
      [ ! -e "$1/$mlxp_log" ] || mv "$1/$mlxp_log" "$mlxp_earlier/$mlxp_log"
    done
  fi
  exec /bin/bash "$1/script.sh" >>"$1/log.stdout" 2>>"$1/log.stderr"
}
mlxp_first=$(("$MLXP_LOCAL_TASK_ID" * 1 - 0))
mlxp_run=$(sed -n "${mlxp_first}p" '@ROOT@/a project/logs/.mlxp/submissions/1/manifest')
[ -n "$mlxp_run" ] || exit
mlxp_start "$mlxp_run"
