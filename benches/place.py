"""A cgroup of one's own for each program that is weighed: what it used of the CPU, and what the kernel holds for it.

Version 1 (cpuacct and memory, below the cgroup of this process) or version 2 (below the nearest cgroup that hands the memory
controller on), whichever this machine has."""

import pathlib
import re

from house import remove_cgroup


class Place:
    """Made with the value, removed by `remove`, when its processes have ended."""

    def __init__(self, name):
        self.folders = []
        above = {"cpuacct": _v1("cpuacct"), "memory": _v1("memory")}
        if None in above.values():
            above = {"": _v2()}
        for kind, parent in above.items():
            folder = parent / name
            try:
                folder.mkdir()
            except OSError as error:
                self.remove()
                raise SystemExit(f"{folder} cannot be made ({error.strerror}): the bench needs root and writable cgroups")
            self.folders.append(folder)
        self.cpu, self.memory = self.folders[0], self.folders[-1]

    def inside(self, command):
        """The command line that enters first and then becomes `command`: not a page or a nanosecond is counted elsewhere."""
        enter = "".join(f"echo 0 > '{file}' && " for file in self.procs_files())
        return ["sh", "-c", f'{enter}exec "$@"', "-", *command]

    def procs_files(self):
        return [folder / "cgroup.procs" for folder in self.folders]

    def pids(self):
        return [int(pid) for pid in (self.memory / "cgroup.procs").read_text().split()]

    def cpu_ns(self):
        if (self.cpu / "cpuacct.usage").exists():
            return int((self.cpu / "cpuacct.usage").read_text())
        return _keyed(self.cpu / "cpu.stat")["usage_usec"] * 1000

    def kernel_bytes(self):
        """Kernel memory charged to the program: open files, sockets, page tables, stacks of threads."""
        if (self.memory / "memory.kmem.usage_in_bytes").exists():
            return int((self.memory / "memory.kmem.usage_in_bytes").read_text())
        stat = _keyed(self.memory / "memory.stat")
        parts = ("slab", "kernel_stack", "pagetables", "percpu")
        return stat["kernel"] if "kernel" in stat else sum(stat.get(part, 0) for part in parts)

    def sums(self):
        """RSS, PSS and open files, over its processes. (Not ru_maxrss: a program inherits that from a fat parent.)"""
        rss = pss = files = 0
        for pid in self.pids():
            rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
            rss += int(re.search(r"^Rss:\s+(\d+) kB", rollup, re.M).group(1)) * 1024
            pss += int(re.search(r"^Pss:\s+(\d+) kB", rollup, re.M).group(1)) * 1024
            files += len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir()))
        return {"rss": rss, "pss": pss, "files": files}

    def anonymous(self):
        """Heap and stacks: RSS without pages of files."""
        rollups = (pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in self.pids())
        return sum(int(re.search(r"^Anonymous:\s+(\d+) kB", rollup, re.M).group(1)) * 1024 for rollup in rollups)

    def threads(self):
        """Names of the threads, those with which a process starts first."""
        tasks = ((task.name != str(pid), int(task.name), (task / "comm").read_text().strip())
                 for pid in self.pids() for task in pathlib.Path(f"/proc/{pid}/task").iterdir())
        return [name for _, _, name in sorted(tasks)]

    def remove(self):
        for folder in self.folders:
            remove_cgroup(folder)


def _mounts(kind):
    lines = (line.split() for line in pathlib.Path("/proc/mounts").read_text().splitlines())
    return [(pathlib.Path(line[1]), line[3].split(",")) for line in lines if line[2] == kind]


def _own(controller):
    """Path of this process in a hierarchy, from its root; `controller` is empty for version 2."""
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            return path.lstrip("/")
    return ""


def _v1(controller):
    for mount, options in _mounts("cgroup"):
        if controller in options:
            own = mount / _own(controller)
            return own if own.is_dir() else mount
    return None


def _v2():
    for mount, _ in _mounts("cgroup2"):
        own = mount / _own("")
        for folder in (own, *own.parents):
            if folder.is_relative_to(mount) and "memory" in _words(folder / "cgroup.subtree_control"):
                return folder
    raise SystemExit("no cgroups with a memory controller here: nothing can be weighed")


def _words(path):
    return path.read_text().split() if path.exists() else []


def _keyed(path):
    return {key: int(value) for key, value in (line.split() for line in path.read_text().splitlines())}
