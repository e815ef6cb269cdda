# shellcheck shell=sh disable=SC2034,SC2154
# Waits for the job's lines, which run in the background.

mlxp_job=$!
for mlxp_signal in $mlxp_early; do mlxp_pass "$mlxp_signal"; done
while [ ! -s "$mlxp_end" ] && kill -0 "$mlxp_job" 2>/dev/null; do wait "$mlxp_job"; mlxp_code=$?; done
if [ -s "$mlxp_end" ]; then read -r mlxp_code _ <"$mlxp_end"; fi
rm -f "$mlxp_end" "$mlxp_pid"
