echo no shebang "$0" "$PWD"
