#!/usr/bin/env bash
# packaging/hardening.sh DIR GOLDEN [--update]: what `readelf` says of the programs in DIR that keeps an attacker out, held against
# the golden file. `make hardening` asks for the release programs. A difference is a decision: read it, then --update.
#
#   pie       position independent, so that addresses are random
#   relro     full: everything that is resolved at load is resolved then and read-only afterwards
#   rpath     none: no library is looked for where somebody else may write
#   stack     not executable
#   w+x       segments both writable and executable
#   stripped  without symbols
#   needed    the shared libraries asked for; none in a static program
set -euo pipefail
dir=${1:?directory of the programs}
golden=${2:?golden file}
programs=(hufu hufu-platform hufu-provision)
say() { echo "packaging/hardening.sh: $*" >&2; }
command -v readelf > /dev/null || { say "readelf is missing; install binutils"; exit 69; }
export LC_ALL=C

describe() {
  local file=$1 header segments dynamic sections pie=no relro=none stack=missing needed
  header=$(readelf -hW "$file") segments=$(readelf -lW "$file") dynamic=$(readelf -dW "$file") sections=$(readelf -SW "$file")
  grep -q 'Type: *DYN' <<< "$header" && grep -q 'FLAGS_1.*PIE' <<< "$dynamic" && pie=yes
  if grep -q GNU_RELRO <<< "$segments"; then
    relro=partial
    if grep -qE 'BIND_NOW|FLAGS_1.*NOW' <<< "$dynamic"; then relro=full; fi
  fi
  if grep -q GNU_STACK <<< "$segments"; then
    stack=$(awk '$1 == "GNU_STACK" { print ($7 ~ /E/ || $8 == "E") ? "executable" : "not executable" }' <<< "$segments")
  fi
  echo "pie: $pie"
  echo "relro: $relro"
  echo "rpath: $(grep -cE '\((RPATH|RUNPATH)\)' <<< "$dynamic" || true)"
  echo "stack: $stack"
  echo "w+x: $(awk '$1 ~ /^(LOAD|GNU_RELRO|GNU_STACK|TLS)$/ { flags = ""; for (i = 7; i < NF; i++) flags = flags $i; if (flags ~ /W/ && flags ~ /E/) n++ } END { print n + 0 }' <<< "$segments")"
  echo "stripped: $(grep -qE ' \.(symtab|debug_info) ' <<< "$sections" && echo no || echo yes)"
  needed=$(sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' <<< "$dynamic" | sort | tr '\n' ' ' | sed 's/ $//')
  echo "needed: ${needed:-none}"
}

found=$(for program in "${programs[@]}"; do
  [ -e "$dir/$program" ] || continue
  echo "[$program]"
  describe "$dir/$program"
done)
[ -n "$found" ] || { say "none of ${programs[*]} in $dir; run: make release"; exit 66; }
if [ "${3:-}" = --update ]; then
  echo "$found" > "$golden"
  say "$golden written"
  exit 0
fi
# Programs that are not there are not compared, and said.
want=$(for program in "${programs[@]}"; do
  if [ -e "$dir/$program" ]; then
    awk -v wanted="[$program]" '/^\[/ { on = $0 == wanted } on' "$golden"
  else
    say "$program is not in $dir: not checked"
  fi
done)
diff -u --label "$golden" --label "$dir" <(echo "$want") <(echo "$found") || { say "the programs in $dir are not as $golden says"; exit 1; }
say "$(grep -c '^\[' <<< "$found") programs are as $golden says"
