#!/usr/bin/env bash
# Project quotas, and an io controller of cgroup version 2 over a real disk, which few build machines have, in the virtual machine of this
# folder: boots its image once with a second disk whose ext4 has quotas, and runs there what `hufu-provision` and `hufu-metering` test of both. Usage: quota.sh [IMAGE-DIRECTORY]; the
# image is made by image.sh if it is not there. Needs root, qemu, mkfs.ext4 and the package quota. Ends with the tests' status.
set -euo pipefail
cd "$(dirname "$0")/../.."
image=${1:-target/vm/image}
[ -e "$image/stamp" ] || tests/vm/image.sh "$image"
command -v setquota > /dev/null || apt-get install -qq -y --no-install-recommends quota > /dev/null

binaries() { cargo test -p "$1" "${@:2}" --no-run 2>&1 | sed -n 's/.*Executable.*(\(.*\))$/\1/p'; }
provision=$(binaries hufu-provision --bin hufu-provision)
storage=$(binaries hufu-metering --test storage)
disk=$(binaries hufu-metering --test disk)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/payload/lib"
cp "$provision" "$work/payload/provision"
cp "$storage" "$work/payload/storage"
cp "$disk" "$work/payload/disk"
cp "$(command -v setquota)" "$(command -v chattr)" "$(command -v lsattr)" "$work/payload/"
for program in "$work"/payload/*; do
  [ -d "$program" ] || ldd "$program" | sed -n 's/.* => \(\/[^ ]*\) .*/\1/p' | xargs -r -I{} cp -Ln {} "$work/payload/lib/"
done
# The C library of the image is the image's own.
rm -f "$work"/payload/lib/{libc.so.6,libm.so.6,libpthread.so.0,ld-linux-x86-64.so.2,libresolv.so.2}
cat > "$work/payload/test.sh" <<'GUEST'
#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev 2> /dev/null
cp -n /mnt/setquota /usr/sbin/; cp -n /mnt/chattr /mnt/lsattr /usr/bin/; cp -n /mnt/lib/* /usr/lib/x86_64-linux-gnu/
modprobe quota_v2
mkdir -p /quota && mount -o prjquota /dev/vdc /quota || echo "no quota filesystem"
mount -t cgroup2 cgroup2 /sys/fs/cgroup && echo '+cpu +memory +io +pids' > /sys/fs/cgroup/cgroup.subtree_control
status=0
HUFU_TEST_DISK=/var/tmp /mnt/disk --nocapture || status=1
for test in "provision where_there_are_project" "storage a_project_quota"; do
  set -- $test
  HUFU_TEST_PRJQUOTA=/quota /mnt/"$1" "$2" --nocapture || status=1
done
echo "quota tests ended with $status"
sync; echo o > /proc/sysrq-trigger; sleep 60
GUEST
chmod +x "$work/payload/test.sh"
truncate -s 512M "$work/payload.img" && mkfs.ext4 -q -F -d "$work/payload" "$work/payload.img"
truncate -s 256M "$work/quota.img" && mkfs.ext4 -q -F -O quota,project "$work/quota.img"
qemu-img create -q -f qcow2 -F qcow2 -b "$(realpath "$image/base.qcow2")" "$work/root.qcow2"
disk() { printf -- '-drive file=%s,format=%s,if=virtio' "$1" "$2"; }
# shellcheck disable=SC2046
timeout 900 qemu-system-x86_64 -M q35 -accel tcg -cpu max -m 768 -nic none -display none -no-reboot -serial stdio \
  -kernel "$image/vmlinuz" -initrd "$image/initrd" \
  -append 'root=/dev/vda rw console=ttyS0 quiet no_timer_check init=/bin/bash -- -c "mount /dev/vdb /mnt; exec /mnt/test.sh"' \
  $(disk "$work/root.qcow2" qcow2) $(disk "$work/payload.img" raw) $(disk "$work/quota.img" raw) | tee "$work/console"
grep -q 'quota tests ended with 0' "$work/console"
