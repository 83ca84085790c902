#!/bin/bash
# The site's command: starts the workload of an order as a service in the order's slice, and ends it. Run by root's helper.
request=$(cat)
field() { printf %s "$request" | sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
unit=order-$(field contract_no)
case $(field verb) in
  start)
    systemctl is-active --quiet "$unit" \
      || systemd-run --quiet --collect --unit="$unit" --slice="$(field slice)" sh -c 'while :; do :; done' || exit 1
    echo "{\"address\":\"ssh://$unit\"}" ;;
  stop) systemctl stop "$unit" 2> /dev/null; exit 0 ;;
esac
