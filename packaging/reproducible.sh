#!/usr/bin/env bash
# packaging/reproducible.sh [PACKAGE..]: builds the release programs twice from HEAD, in two directories whose names differ in length,
# with the flags of packaging/flags.sh, and compares their SHA-256; hufu-agent, hufu-platform and hufu-provision by default. Two
# full release builds: many minutes. What is not committed is not built.
set -euo pipefail
cd "$(dirname "$0")/.."
say() { echo "packaging/reproducible.sh: $*" >&2; }
packages=("${@:-hufu-agent hufu-platform hufu-provision}")
wanted=()
for package in ${packages[*]}; do wanted+=(-p "$package"); done
cargo=${CARGO:-cargo}
commit=$(git rev-parse HEAD)
[ -z "$(git status --porcelain)" ] || say "there are changes that are not committed; they are not built"
export SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)

places=(target/reproducible/a target/reproducible/another-and-longer-place/b)
for place in "${places[@]}"; do
  rm -rf "$place"
  mkdir -p "$place"
  git archive "$commit" | tar -x -C "$place"
  began=$(date +%s)
  (
    cd "$place"
    . packaging/flags.sh
    CARGO_TARGET_DIR=$PWD/target "$cargo" build --release --locked "${wanted[@]}" --bins
  )
  say "$place built in $(($(date +%s) - began)) s"
done

count=0
for one in "${places[0]}"/target/release/hufu*; do
  [ -f "$one" ] && [ -x "$one" ] || continue
  program=$(basename "$one")
  hashes=$(for place in "${places[@]}"; do sha256sum < "$place/target/release/$program"; done)
  echo "$(head -n 1 <<< "$hashes" | cut -c 1-64)  $program"
  [ "$(sort -u <<< "$hashes" | wc -l)" -eq 1 ] || { say "$program differs: $hashes"; exit 1; }
  # A path of this machine in a program would be a difference that two directories below one another do not show.
  for path in "$PWD" "${CARGO_HOME:-$HOME/.cargo}"; do
    if grep -qaF "$path" "$one"; then
      say "$program holds the path $path"
      exit 1
    fi
  done
  count=$((count + 1))
done
[ $count -gt 0 ] || { say "nothing was built"; exit 1; }
say "$count programs, the same bytes twice"
