"""A virtual machine under qemu's software emulation: boot, type on its serial console, cut its power, boot it again.

Python's standard library only. What is done in the machine is scenario.py's part; what it is made of, image.sh's.
"""

import base64
import os
import secrets
import select
import socket
import subprocess
import tarfile
import time

# What comes out of the machine: a third disk that the guest writes a tar archive to.
OUT_BYTES = 64 << 20


class VmError(Exception):
    """The machine did not do what was asked."""


class Machine:
    """One machine: an overlay over the base image, so that the image is never written."""

    def __init__(self, image, work, payload=None):
        self.image, self.work, self.payload = image, work, payload
        self.disk, self.out = (os.path.join(work, name) for name in ("disk.qcow2", "out.raw"))
        self.log = open(os.path.join(work, "console.log"), "ab")
        self.process = self.console = self.monitor = None
        self.buffer = b""
        if not os.path.exists(self.disk):
            base = os.path.abspath(os.path.join(image, "base.qcow2"))
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, self.disk], check=True)

    def boot(self, limit=600, clock=None):
        """Cold start until the shell answers; `clock` is what its battery-backed clock says, UTC, where it is wrong.

        On a busy host the emulated timer may be late for the kernel's own check of it, which would end in a panic."""
        serial, monitor = (os.path.join(self.work, name) for name in ("serial", "monitor"))
        for path in (serial, monitor):
            if os.path.exists(path):
                os.remove(path)
        drives = ["-drive", f"file={self.disk},if=virtio,format=qcow2,cache=writeback"]
        with open(self.out, "wb") as file:
            file.truncate(OUT_BYTES)
        if self.payload:
            drives += ["-drive", f"file={self.payload},if=virtio,format=raw,readonly=on"]
        drives += ["-drive", f"file={self.out},if=virtio,format=raw"]
        if clock:
            drives += ["-rtc", f"base={clock}"]
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024",
             "-kernel", os.path.join(self.image, "vmlinuz"), "-initrd", os.path.join(self.image, "initrd"),
             "-append", "root=/dev/vda rw console=ttyS0 quiet net.ifnames=0 no_timer_check panic=-1", *drives, "-nic", "none", "-display", "none",
             "-no-reboot", "-serial", f"unix:{serial},server=on,wait=off", "-monitor", f"unix:{monitor},server=on,wait=off"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.console, self.monitor = self._connect(serial), self._connect(monitor)
        self.buffer = b""
        # The shell echoes and prompts until it is told not to.
        self._ready(limit, "stty -echo; bind \"set enable-bracketed-paste off\"; PS1=; PS2=; unset PROMPT_COMMAND; ")

    def _ready(self, limit, first=""):
        """Waits until the shell answers, asked again and again: what is typed while the port sleeps or boots is lost.

        Only what the shell computed is its answer, and only to the question asked last: an echo is not one."""
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            number = secrets.randbelow(1 << 30)
            self._type(f"{first}echo ready-$(({number}+1))-")
            if self._until(f"ready-{number + 1}-".encode(), 5) is not None:
                self._until(b"\n", 2)
                return
            if self.process.poll() is not None:
                raise VmError(f"qemu ended with {self.process.returncode}")
        raise VmError(f"the machine's shell did not answer within {limit} s")

    def _connect(self, path):
        for _ in range(200):
            try:
                found = socket.socket(socket.AF_UNIX)
                found.connect(path)
                return found
            except OSError:
                time.sleep(0.05)
        raise VmError(f"{path}: nobody there")

    def _type(self, line):
        self.console.sendall(line.encode() + b"\n")

    def _until(self, mark, limit):
        """What the console said before `mark`, or None after `limit` seconds."""
        deadline = time.monotonic() + limit
        while mark not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.console], [], [], left)[0]:
                return None
            got = self.console.recv(65536)
            if not got:
                return None
            self.log.write(got)
            self.log.flush()
            self.buffer += got
        said, _, self.buffer = self.buffer.partition(mark)
        return said

    def run(self, script, limit=300, check=True):
        """Runs a shell script, gives what it wrote; a status other than 0 is an error unless `check` is off."""
        mark = "end-" + secrets.token_hex(8)
        packed = base64.b64encode(script.encode()).decode()
        # A terminal takes lines of at most 4096 characters.
        self._type("rm -f /run/script.b64")
        for start in range(0, len(packed), 2000):
            self._type(f"printf %s {packed[start:start + 2000]} >> /run/script.b64")
        # The mark is put together by the shell, so that an echo of this line is not taken for the end.
        head, tail = mark[:8], mark[8:]
        self._type(f"base64 -d /run/script.b64 > /run/script; bash /run/script < /dev/null 2>&1; echo \"{head}\"\"{tail} $?\"")
        said = self._until(mark.encode(), limit)
        if said is None:
            raise VmError(f"no end within {limit} s of: {script}\n{self.buffer.decode(errors='replace')[-2000:]}")
        status = self._until(b"\n", 10)
        text = said.decode(errors="replace").replace("\r", "")
        code = int((status or b"255").strip() or b"255")
        if check and code != 0:
            raise VmError(f"status {code} of: {script}\n{text}")
        return text if check else (code, text)

    def fetch(self, *paths):
        """Files and directories of the machine, by their path, as a dictionary of contents."""
        self.run(f"tar -cf /dev/vdc --ignore-failed-read -C / {' '.join(path.lstrip('/') for path in paths)} && sync", 120)
        with tarfile.open(self.out, "r:") as archive:
            return {"/" + member.name: archive.extractfile(member).read() for member in archive if member.isfile()}

    def suspend(self, seconds):
        """Suspends the machine to memory, as `systemctl suspend` does, and wakes it after it slept that long."""
        self._type("echo mem > /sys/power/state")
        self._state("suspended", 120)
        time.sleep(seconds)
        self.say("system_wakeup")
        self._state("running", 120)
        self._ready(300)

    def _state(self, word, limit):
        """Waits until the monitor says that the machine is in that state."""
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            while select.select([self.monitor], [], [], 0)[0] and self.monitor.recv(65536):
                pass
            self.say("info status")
            if select.select([self.monitor], [], [], 5)[0] and word in self.monitor.recv(65536).decode(errors="replace"):
                return
        raise VmError(f"the machine is not {word} after {limit} s")

    def say(self, command):
        """Gives the monitor a command."""
        self.monitor.sendall(command.encode() + b"\n")
        time.sleep(0.5)

    def cut(self):
        """Cuts the power: nothing of the machine runs another instruction."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for end in (self.console, self.monitor):
            if end:
                end.close()
        self.console = self.monitor = None
