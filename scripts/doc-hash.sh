#!/usr/bin/env bash
# Writes the hash of each source that docs/evidence.asn1 and docs/if2.md describe into its `-- source PATH SHA256` line. Run it
# after the document was brought in line with the source; a test compares the two.
set -euo pipefail
cd "$(dirname "$0")/.."
new=$(mktemp)
trap 'rm -f "$new"' EXIT
for doc in docs/evidence.asn1 docs/if2.md; do
  while IFS= read -r line; do
    case $line in
      '-- source '*)
        path=$(cut -d' ' -f3 <<< "$line")
        printf -- '-- source %s %s\n' "$path" "$(sha256sum "$path" | cut -d' ' -f1)" ;;
      *) printf '%s\n' "$line" ;;
    esac
  done < "$doc" > "$new"
  cat "$new" > "$doc"
done
