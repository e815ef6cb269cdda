# shellcheck shell=sh disable=SC2016,SC2154,SC2329
# The working folder of a run: what its code has, for the job to read and to write beside; at the end what it has written.
# Set above: mlxp_work, mlxp_copy, mlxp_template (see versioning/work_folder.py).

mlxp_fill() { # mlxp_fill FOLDER…: and these, empty
  if [ -d "$mlxp_work" ]; then # what an earlier attempt has written stays; some kinds of cp fail for that
    cp -RPpn "$mlxp_template/." "$mlxp_work" 2>/dev/null || :
  else
    mkdir -p "$mlxp_work" && cp -RPp "$mlxp_template/." "$mlxp_work" || return
  fi
  ln -sfn "$mlxp_copy" "$mlxp_work/.mlxp-code" || return
  for mlxp_folder; do mkdir -p "$mlxp_work/$mlxp_folder" || return; done
}
mlxp_tidy() { # take out what is as it was: by the time of the template, which is long ago, also after a second's work
  if [ ! -d "$mlxp_work" ] || ! cd "$mlxp_template" 2>/dev/null; then return; fi
  find . ! -type d -exec sh -c '
    mlxp_work=$0
    for mlxp_name; do
      shift
      if [ -L "$mlxp_name" ]; then
        [ ! -L "$mlxp_work/$mlxp_name" ] || set -- "$@" "$mlxp_work/$mlxp_name"
      elif [ -f "$mlxp_work/$mlxp_name" ] && ! [ "$mlxp_work/$mlxp_name" -nt "$mlxp_name" ]; then
        set -- "$@" "$mlxp_work/$mlxp_name"
      fi
    done
    [ $# = 0 ] || rm -f -- "$@"' "$mlxp_work" {} +
  rm -f "$mlxp_work/.mlxp-code"
  find "$mlxp_work" -depth -type d -exec rmdir {} + 2>/dev/null
}
