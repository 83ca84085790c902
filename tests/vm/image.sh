#!/usr/bin/env bash
# tests/vm/image.sh OUT: a Debian disk image with systemd and cgroup v2, its kernel and initrd, in directory OUT. Made once
# and kept; root logs in on the serial console without a password. Needs root, mmdebstrap, mkfs.ext4 and qemu-img.
set -euo pipefail
out=${1:?directory}
suite=bookworm
# What the image is made of; another list makes another image.
include=systemd-sysv,udev,dbus,kmod,linux-image-cloud-amd64,mosquitto,openssl,procps,systemd-timesyncd
stamp="$suite $include v1"
[ -e "$out/stamp" ] && [ "$(cat "$out/stamp")" = "$stamp" ] && exit 0

rm -rf "$out"
mkdir -p "$out"
root=$out/root
mmdebstrap --variant=minbase --quiet --include=$include \
  --aptopt='Acquire::Languages "none"' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --customize-hook='echo hufu-vm > "$1/etc/hostname"' \
  $suite "$root"
dropin=$root/etc/systemd/system/serial-getty@ttyS0.service.d
mkdir -p "$dropin"
printf '[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin root --noclear --keep-baud 115200 %%I vt220\n' > "$dropin/login.conf"
# Quiet, and nothing that starts by itself in the middle of a test.
for unit in apt-daily.timer apt-daily-upgrade.timer systemd-timesyncd.service mosquitto.service fstrim.timer e2scrub_all.timer; do
  chroot "$root" systemctl disable "$unit" > /dev/null 2>&1 || true
done
printf '/dev/vda / ext4 rw,errors=remount-ro 0 1\n' > "$root/etc/fstab"
printf 'Storage=persistent\n' >> "$root/etc/systemd/journald.conf"
cp "$root"/boot/vmlinuz-* "$out/vmlinuz"
cp "$root"/boot/initrd.img-* "$out/initrd"
truncate -s 3G "$out/disk.raw"
mkfs.ext4 -q -F -d "$root" "$out/disk.raw"
qemu-img convert -O qcow2 "$out/disk.raw" "$out/base.qcow2"
rm -rf "$root" "$out/disk.raw"
echo "$stamp" > "$out/stamp"
