#!/usr/bin/env bash
# tests/vm/look.sh: boots the disk that the last run left and gives its console, root without a password; Ctrl-A X ends it.
set -euo pipefail
cd "$(dirname "$0")/../../target/vm"
exec qemu-system-x86_64 -M q35 -accel tcg,thread=multi -cpu max -smp 2 -m 1024 -kernel image/vmlinuz -initrd image/initrd \
  -append "root=/dev/vda rw console=ttyS0 net.ifnames=0 no_timer_check" -drive file=run/disk.qcow2,if=virtio,format=qcow2 \
  -nic none -nographic
