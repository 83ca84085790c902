//! Traffic counters in the kernel, one system call at a time: two programs of eight instructions that add each packet's length to a
//! map, and the map read through a mapping. The only file of this crate with unsafe code: bpf(2), and memory that the kernel
//! writes. When they are attached, found and taken off is `counters.rs`.
//!
//! Programs of a link (BPF_LINK_CREATE) would die with the process that made it; these are attached with BPF_PROG_ATTACH and stay.
#![allow(
    unsafe_code,
    reason = "bpf(2) has no wrapper in the libraries we use, and mapped memory is read through a pointer; both end in this file"
)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    path::Path,
    ptr::NonNull,
};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::{Error, file};

/// Commands of bpf(2).
const MAP_CREATE: libc::c_int = 0;
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const MAP_GET_FD_BY_ID: libc::c_int = 14;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const PROG_QUERY: libc::c_int = 16;
const MAP_FREEZE: libc::c_int = 22;

const MAP_TYPE_ARRAY: u32 = 2;
const PROG_TYPE_CGROUP_SKB: u32 = 8;
/// Others may attach beside us, here and in the cgroups below; all programs see each packet.
const ALLOW_MULTI: u32 = 1 << 1;
const MMAPABLE: u32 = 1 << 10;
/// The kernel allows no more programs on one hook of one cgroup.
const PROGRAMS_MAX: usize = 64;
/// On a processor of 32 bits a counter is read until it is the same twice, at most as often as this.
const READS_MAX: usize = 8;

/// Values of the map: bytes received, bytes sent, packets received, packets sent.
const COUNTERS: usize = 4;
const VALUE_BYTES: u32 = 32;
const MAP_NAME: [u8; 16] = *b"hufu_net\0\0\0\0\0\0\0\0";

/// One of the two hooks of a cgroup. The order's view: what it receives, what it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Hook {
    /// BPF_CGROUP_INET_INGRESS.
    Rx = 0,
    /// BPF_CGROUP_INET_EGRESS.
    Tx = 1,
}

impl Hook {
    pub(crate) const BOTH: [Self; 2] = [Self::Rx, Self::Tx];

    /// The name by which a program of ours is known. Another program text needs another name: totals of a running order
    /// stay with the program that counts them.
    pub(crate) fn name(self) -> [u8; 16] {
        match self {
            Self::Rx => *b"hufu_rx\0\0\0\0\0\0\0\0\0",
            Self::Tx => *b"hufu_tx\0\0\0\0\0\0\0\0\0",
        }
    }

    /// Offset of its byte counter in the map's value; its packet counter is 16 bytes behind.
    fn offset(self) -> i16 {
        match self {
            Self::Rx => 0,
            Self::Tx => 8,
        }
    }
}

/// `struct bpf_insn`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

fn instruction(code: u8, (to, from): (u8, u8), offset: i16, immediate: i32) -> Instruction {
    let registers = if cfg!(target_endian = "little") { to | from << 4 } else { to << 4 | from };
    Instruction { code, registers, offset, immediate }
}

/// The program: `value[bytes] += skb->len; value[packets] += 1; return 1`, both additions atomic. It lets every packet pass.
fn program(map: RawFd, hook: Hook) -> [Instruction; 8] {
    const LOAD_WORD: u8 = 0x61;
    const LOAD_MAP_VALUE: u8 = 0x18;
    const PSEUDO_MAP_VALUE: u8 = 2;
    const ATOMIC_ADD: u8 = 0xdb;
    const MOVE: u8 = 0xb7;
    const EXIT: u8 = 0x95;
    let bytes = hook.offset();
    [
        instruction(LOAD_WORD, (2, 1), 0, 0),
        instruction(LOAD_MAP_VALUE, (1, PSEUDO_MAP_VALUE), 0, map),
        instruction(0, (0, 0), 0, 0),
        instruction(ATOMIC_ADD, (1, 2), bytes, 0),
        instruction(MOVE, (2, 0), 0, 1),
        instruction(ATOMIC_ADD, (1, 2), bytes + 16, 0),
        instruction(MOVE, (0, 0), 0, 1),
        instruction(EXIT, (0, 0), 0, 0),
    ]
}

/// What bpf(2) takes and gives: plain integers in the kernel's layout, no padding that is not a field.
///
/// # Safety
/// All-zero bytes are a value of the type, and it is at least as long as what the kernel of any version writes for its command.
unsafe trait Plain: Sized {}

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries_max: u32,
    flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    name: [u8; 16],
    ifindex: u32,
}

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    instruction_count: u32,
    instructions: u64,
    licence: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    ifindex: u32,
    expected_attach_type: u32,
}

#[repr(C)]
#[derive(Default)]
struct Attach {
    target_fd: u32,
    prog_fd: u32,
    attach_type: u32,
    flags: u32,
}

/// Newer kernels write `revision` whatever length they are told, hence the whole of it and some room.
#[repr(C)]
#[derive(Default)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_count: u32,
    pad: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
    room: [u64; 8],
}

/// An id, or with BPF_MAP_FREEZE a descriptor.
#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next_id: u32,
    open_flags: u32,
    pad: u32,
}

#[repr(C)]
#[derive(Default)]
struct GetInfo {
    fd: u32,
    info_bytes: u32,
    info: u64,
}

/// The beginning of `struct bpf_prog_info`; the kernel fills as much as it is told there is.
#[repr(C)]
#[derive(Default)]
pub(crate) struct ProgInfo {
    prog_type: u32,
    id: u32,
    pub(crate) tag: [u8; 8],
    jited_bytes: u32,
    xlated_bytes: u32,
    jited: u64,
    xlated: u64,
    load_time: u64,
    uid: u32,
    map_count: u32,
    map_ids: u64,
    pub(crate) name: [u8; 16],
}

/// The beginning of `struct bpf_map_info`.
#[repr(C)]
#[derive(Default)]
struct MapInfo {
    map_type: u32,
    id: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries_max: u32,
    flags: u32,
    name: [u8; 16],
}

// SAFETY: all of these are integers and arrays of them in the layout of linux/bpf.h; of commands that write back only
// PROG_QUERY (with room) and OBJ_GET_INFO_BY_FD (`info_bytes`) are used.
unsafe impl Plain for MapCreate {}
// SAFETY: as above.
unsafe impl Plain for ProgLoad {}
// SAFETY: as above.
unsafe impl Plain for Attach {}
// SAFETY: as above.
unsafe impl Plain for Query {}
// SAFETY: as above.
unsafe impl Plain for ById {}
// SAFETY: as above.
unsafe impl Plain for GetInfo {}

/// bpf(2).
fn bpf<T: Plain>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the pointer is to a `Plain` of this length that nothing else uses meanwhile; addresses inside it are of live
    // buffers of the callers, whose lengths stand beside them.
    let found = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if found < 0 { Err(io::Error::last_os_error()) } else { Ok(found) }
}

/// bpf(2) for a command that gives a descriptor.
fn bpf_fd<T: Plain>(command: libc::c_int, mut attributes: T) -> io::Result<OwnedFd> {
    let found = bpf(command, &mut attributes)?;
    let fd = RawFd::try_from(found).map_err(io::Error::other)?;
    // SAFETY: the kernel just gave this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn address<T>(of: *const T) -> io::Result<u64> {
    u64::try_from(of.expose_provenance()).map_err(io::Error::other)
}

fn number(fd: BorrowedFd<'_>) -> io::Result<u32> {
    u32::try_from(fd.as_raw_fd()).map_err(io::Error::other)
}

fn bytes_of<T>() -> u32 {
    u32::try_from(size_of::<T>()).unwrap_or(0)
}

/// A new map, all zero. Frozen: from now on only programs write it, no process, root's neither; a descriptor that is mapped
/// shared must be one that could be written.
pub(crate) fn create_map() -> io::Result<OwnedFd> {
    let attributes = || MapCreate {
        map_type: MAP_TYPE_ARRAY,
        key_bytes: 4,
        value_bytes: VALUE_BYTES,
        entries_max: 1,
        flags: MMAPABLE,
        name: MAP_NAME,
        ..MapCreate::default()
    };
    let made = match bpf_fd(MAP_CREATE, attributes()) {
        // Before 5.11 a map counts as locked memory, of which even root has little.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            let all = rustix::process::Rlimit { current: None, maximum: None };
            rustix::process::setrlimit(rustix::process::Resource::Memlock, all).map_err(|_| error)?;
            bpf_fd(MAP_CREATE, attributes())?
        }
        made => made?,
    };
    bpf(MAP_FREEZE, &mut ById { id: number(made.as_fd())?, ..ById::default() })?;
    Ok(made)
}

/// The program of a hook, counting in `map`.
pub(crate) fn load(map: BorrowedFd<'_>, hook: Hook) -> io::Result<OwnedFd> {
    let text = program(map.as_raw_fd(), hook);
    let attributes = ProgLoad {
        prog_type: PROG_TYPE_CGROUP_SKB,
        instruction_count: u32::try_from(text.len()).unwrap_or(0),
        instructions: address(text.as_ptr())?,
        licence: address(c"Apache-2.0".as_ptr())?,
        name: hook.name(),
        expected_attach_type: hook as u32,
        ..ProgLoad::default()
    };
    bpf_fd(PROG_LOAD, attributes)
}

fn by_id(command: libc::c_int, id: u32) -> io::Result<OwnedFd> {
    bpf_fd(command, ById { id, ..ById::default() })
}

/// A program by its id.
pub(crate) fn open_program(id: u32) -> io::Result<OwnedFd> {
    by_id(PROG_GET_FD_BY_ID, id)
}

/// What the kernel knows of an object; `info` is a `ProgInfo` or a `MapInfo`.
fn inform<T>(fd: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    let mut attributes =
        GetInfo { fd: number(fd)?, info_bytes: bytes_of::<T>(), info: address(std::ptr::from_mut(info))? };
    bpf(OBJ_GET_INFO_BY_FD, &mut attributes).map(drop)
}

/// Name, instructions and map of a program.
pub(crate) fn inspect(program: BorrowedFd<'_>) -> io::Result<(ProgInfo, Option<u32>)> {
    let mut map_ids = [0_u32; 1];
    let mut info = ProgInfo { map_count: 1, map_ids: address(map_ids.as_mut_ptr())?, ..ProgInfo::default() };
    inform(program, &mut info)?;
    let [map] = map_ids;
    let only = (info.map_count == 1).then_some(map);
    Ok((info, only))
}

/// The ids of the programs on a hook of a cgroup.
pub(crate) fn programs(cgroup: BorrowedFd<'_>, hook: Hook) -> io::Result<Vec<u32>> {
    let mut ids = vec![0_u32; PROGRAMS_MAX];
    let mut query = Query {
        target_fd: number(cgroup)?,
        attach_type: hook as u32,
        prog_ids: address(ids.as_mut_ptr())?,
        prog_count: u32::try_from(PROGRAMS_MAX).unwrap_or(0),
        ..Query::default()
    };
    bpf(PROG_QUERY, &mut query)?;
    ids.truncate(usize::try_from(query.prog_count).unwrap_or(0));
    Ok(ids)
}

/// A map by its id, and whether it has the shape of ours.
pub(crate) fn open_map(id: u32) -> io::Result<(OwnedFd, bool)> {
    let map = by_id(MAP_GET_FD_BY_ID, id)?;
    let mut info = MapInfo::default();
    inform(map.as_fd(), &mut info)?;
    let shape = (info.map_type, info.value_bytes, info.entries_max, info.flags & MMAPABLE, info.name);
    Ok((map, shape == (MAP_TYPE_ARRAY, VALUE_BYTES, 1, MMAPABLE, MAP_NAME)))
}

/// Puts a program on a hook, beside others.
pub(crate) fn attach_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>, hook: Hook) -> io::Result<()> {
    let mut attributes =
        Attach { target_fd: number(cgroup)?, prog_fd: number(program)?, attach_type: hook as u32, flags: ALLOW_MULTI };
    bpf(PROG_ATTACH, &mut attributes).map(drop)
}

/// Takes a program off a hook; one that is off is off.
pub(crate) fn detach_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>, hook: Hook) -> io::Result<()> {
    let mut attributes =
        Attach { target_fd: number(cgroup)?, prog_fd: number(program)?, attach_type: hook as u32, flags: 0 };
    match bpf(PROG_DETACH, &mut attributes) {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        // Somebody else was faster.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The counters of one cgroup, mapped. Neither a descriptor nor a system call is needed to read them.
#[derive(Debug)]
pub struct Counters {
    page: NonNull<u64>,
    id: u32,
}

// SAFETY: the mapping belongs to the value and is only ever read.
unsafe impl Send for Counters {}

/// What a cgroup's network sockets sent and received since the counters were attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes received: whole IP packets as the host's stack sees them.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets received; one may stand for several on the wire (GRO).
    pub rx_packets: u64,
    /// Packets sent; one may become several on the wire (GSO).
    pub tx_packets: u64,
}

impl Counters {
    /// Maps the counters behind a descriptor that [`crate::counters::attach`] gave, here or in another process. Makes no bpf(2) call.
    ///
    /// # Errors
    /// [`Error::NotCounters`] for a descriptor of anything else.
    pub fn map(fd: OwnedFd) -> Result<Self, Error> {
        let id = map_id(fd.as_fd())?;
        // SAFETY: a new mapping at an address of the kernel's choice, which only this value knows.
        let page = unsafe {
            let length = usize::try_from(VALUE_BYTES).unwrap_or(0);
            mmap(std::ptr::null_mut(), length, ProtFlags::READ, MapFlags::SHARED, &fd, 0)
        };
        let page = page.map_err(|source| Error::NotCounters { why: source.to_string() })?;
        let page = NonNull::new(page.cast::<u64>()).ok_or(Error::NotCounters { why: "no address".to_owned() })?;
        Ok(Self { page, id })
    }

    /// The map's id: never used again until the host reboots.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Reads the counters as they stand.
    pub fn read(&self) -> Traffic {
        let [rx_bytes, tx_bytes, rx_packets, tx_packets] = [0, 1, 2, 3].map(|index| self.value(index));
        Traffic { rx_bytes, tx_bytes, rx_packets, tx_packets }
    }

    fn value(&self, index: usize) -> u64 {
        // SAFETY: the mapping is a page, `index` below COUNTERS, and the kernel writes whole aligned words of 64 bits.
        let read = || unsafe { self.page.as_ptr().add(index.min(COUNTERS - 1)).read_volatile() };
        // A processor of 32 bits reads it in two halves: believed once it is the same twice.
        let mut value = read();
        if cfg!(target_pointer_width = "32") {
            for _ in 0..READS_MAX {
                let again = read();
                if again == value {
                    break;
                }
                value = again;
            }
        }
        value
    }
}

impl Drop for Counters {
    fn drop(&mut self) {
        // SAFETY: made by `map` with this length, and nothing points into it any more.
        unsafe { munmap(self.page.as_ptr().cast(), usize::try_from(VALUE_BYTES).unwrap_or(0)) }.ok();
    }
}

/// The id of a map of our shape, from what the kernel says of the descriptor. Without this a descriptor of a short file would be
/// mapped, and reading it would kill the process.
fn map_id(fd: BorrowedFd<'_>) -> Result<u32, Error> {
    let path = Path::new("/proc/self/fdinfo").join(fd.as_raw_fd().to_string());
    let text = file::read_once(&path)?;
    let number = |key: &str| file::keyed(&text, key.as_bytes());
    let shape = [("map_type", MAP_TYPE_ARRAY), ("value_size", VALUE_BYTES), ("max_entries", 1), ("frozen", 1)];
    for (key, want) in shape {
        if number(key) != Some(u64::from(want)) {
            return Err(Error::NotCounters { why: format!("{key} is not {want}") });
        }
    }
    let id = number("map_id").and_then(|id| u32::try_from(id).ok());
    id.ok_or_else(|| Error::NotCounters { why: "the kernel does not tell the map's id".to_owned() })
}
