//! Named counters of nftables as the kernel tells them: one dump over a netlink socket, no process, no allocation once its
//! buffers are large enough. Needs `CAP_NET_ADMIN` for each request. Whose the counters are and how they came there is `nft.rs`.

#![allow(clippy::host_endian_bytes, reason = "netlink's headers are in the byte order of the machine")]

use std::os::fd::OwnedFd;

use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with},
};

/// Larger than any datagram of a dump.
const DATAGRAM_BYTES: usize = 64 * 1024;
/// A dump that goes on for longer is not believed.
const DATAGRAMS_MAX: usize = 4096;

/// NFNL_SUBSYS_NFTABLES in the upper half.
const GET_OBJECT: u16 = 10 << 8 | 19;
const NEW_OBJECT: u16 = 10 << 8 | 18;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// NLM_F_REQUEST, NLM_F_DUMP.
const DUMP: u16 = 0x001 | 0x300;
/// NFPROTO_INET.
const INET: u8 = 1;
/// NFTA_OBJ_*.
const OBJECT_TABLE: u16 = 1;
const OBJECT_NAME: u16 = 2;
const OBJECT_TYPE: u16 = 3;
const OBJECT_DATA: u16 = 4;
/// NFT_OBJECT_COUNTER.
const COUNTER: u32 = 1;
/// NFTA_COUNTER_BYTES.
const COUNTER_BYTES: u16 = 1;
/// What an attribute's type says besides itself.
const FLAGS: u16 = 0xc000;
const HEADER_BYTES: usize = 16;
const FAMILY_BYTES: usize = 4;

/// A socket to the kernel's nftables, and what a dump needs.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    request: Vec<u8>,
    sequence: u32,
    datagram: Vec<u8>,
}

impl Socket {
    /// A socket for the counters of `table`, family `inet`.
    pub(crate) fn open(table: &str) -> Result<Self, Errno> {
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::NETFILTER))?;
        let mut request = vec![0; HEADER_BYTES];
        request.extend([INET, 0, 0, 0]);
        put(&mut request, OBJECT_TABLE, [table.as_bytes(), b"\0"].concat().as_slice());
        put(&mut request, OBJECT_TYPE, &COUNTER.to_be_bytes());
        let length = u32::try_from(request.len()).map_err(|_| Errno::MSGSIZE)?;
        let head = [&length.to_ne_bytes()[..], &GET_OBJECT.to_ne_bytes(), &DUMP.to_ne_bytes()].concat();
        if let Some(start) = request.get_mut(..head.len()) {
            start.copy_from_slice(&head);
        }
        Ok(Self { fd, request, sequence: 0, datagram: vec![0; DATAGRAM_BYTES] })
    }

    /// Names and bytes of all counters of the table, one call of `found` each.
    ///
    /// # Errors
    /// What the kernel says: `EPERM` without the right, `EBADMSG` for an answer that is none.
    pub(crate) fn dump(&mut self, mut found: impl FnMut(&[u8], u64)) -> Result<(), Errno> {
        self.sequence = self.sequence.wrapping_add(1);
        if let Some(sequence) = self.request.get_mut(8..12) {
            sequence.copy_from_slice(&self.sequence.to_ne_bytes());
        }
        send(&self.fd, &self.request, SendFlags::empty())?;
        for _ in 0..DATAGRAMS_MAX {
            // The kernel answers while it is asked: there is nothing to wait for.
            let (filled, whole) = match recv(&self.fd, &mut self.datagram[..], RecvFlags::DONTWAIT) {
                Err(Errno::INTR) => continue,
                found => found?,
            };
            let datagram = self.datagram.get(..filled).filter(|_| filled == whole).ok_or(Errno::MSGSIZE)?;
            if take(datagram, self.sequence, &mut found)? {
                return Ok(());
            }
        }
        Err(Errno::OVERFLOW)
    }
}

/// Appends an attribute.
fn put(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    out.extend(length.to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// Takes the messages of a datagram; true with the last.
fn take(mut datagram: &[u8], sequence: u32, found: &mut impl FnMut(&[u8], u64)) -> Result<bool, Errno> {
    while !datagram.is_empty() {
        let length = u32_at(datagram, 0).and_then(|length| usize::try_from(length).ok()).ok_or(Errno::BADMSG)?;
        let message = datagram.get(..length).filter(|_| length >= HEADER_BYTES).ok_or(Errno::BADMSG)?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        // An answer to a question that was given up.
        if u32_at(message, 8) != Some(sequence) {
            continue;
        }
        let body = message.get(HEADER_BYTES..).unwrap_or_default();
        match u16_at(message, 4) {
            Some(DONE) => return Ok(true),
            Some(ERROR) => {
                let code = u32_at(body, 0).map(u32::cast_signed).and_then(i32::checked_neg);
                return Err(code.filter(|code| *code > 0).map_or(Errno::BADMSG, Errno::from_raw_os_error));
            }
            Some(NEW_OBJECT) => object(body.get(FAMILY_BYTES..).unwrap_or_default(), found),
            _ => {}
        }
    }
    Ok(false)
}

fn object(attributes: &[u8], found: &mut impl FnMut(&[u8], u64)) {
    let name = attribute(attributes, OBJECT_NAME).and_then(|name| name.strip_suffix(b"\0"));
    let bytes = attribute(attributes, OBJECT_DATA).and_then(|data| attribute(data, COUNTER_BYTES));
    let bytes = bytes.and_then(|bytes| bytes.first_chunk()).map(|bytes| u64::from_be_bytes(*bytes));
    if let (Some(name), Some(bytes)) = (name, bytes) {
        found(name, bytes);
    }
}

/// The value of an attribute.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let (length, kind) = (usize::from(u16_at(attributes, 0)?), u16_at(attributes, 2)?);
        let value = attributes.get(4..length)?;
        if kind & !FLAGS == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|word| u16::from_ne_bytes(*word))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message as the kernel writes it.
    fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER_BYTES + body.len()).unwrap();
        let mut out =
            [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 2], &sequence.to_ne_bytes(), &[0; 4]].concat();
        out.extend(body);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    fn counter(name: &str, bytes: u64) -> Vec<u8> {
        let mut value = Vec::new();
        put(&mut value, 2, &7_u64.to_be_bytes());
        put(&mut value, COUNTER_BYTES, &bytes.to_be_bytes());
        let mut body = vec![INET, 0, 0, 0];
        put(&mut body, OBJECT_TABLE, b"hufu\0");
        put(&mut body, OBJECT_NAME, format!("{name}\0").as_bytes());
        put(&mut body, OBJECT_DATA | 0x8000, &value);
        body
    }

    fn taken(datagram: &[u8]) -> (Result<bool, Errno>, Vec<(String, u64)>) {
        let mut all = Vec::new();
        let result = take(datagram, 5, &mut |name, bytes| all.push((String::from_utf8(name.to_vec()).unwrap(), bytes)));
        (result, all)
    }

    #[test]
    fn a_dump_is_taken_apart_and_foreign_or_broken_answers_are_not_believed() {
        let good =
            [message(NEW_OBJECT, 5, &counter("rx_1_2", 300)), message(NEW_OBJECT, 4, &counter("old", 1))].concat();
        assert_eq!(taken(&good), (Ok(false), vec![("rx_1_2".to_owned(), 300)]));
        assert_eq!(taken(&message(DONE, 5, &[0; 4])).0, Ok(true));
        let refused = message(ERROR, 5, &(-1_i32).to_ne_bytes());
        assert_eq!(taken(&refused).0, Err(Errno::PERM));
        for code in [0_i32, 7, i32::MIN] {
            assert_eq!(taken(&message(ERROR, 5, &code.to_ne_bytes())).0, Err(Errno::BADMSG), "{code}");
        }
        for cut in 1..good.len() {
            let (result, all) = taken(&good[..cut]);
            assert!(result.is_err() || all.len() <= 1, "{cut}");
        }
        assert_eq!(taken(&[0; 16]).0, Err(Errno::BADMSG), "a message without length");
        let mut short = message(NEW_OBJECT, 5, &counter("rx_1_2", 300));
        short.truncate(60);
        let length = u32::try_from(short.len()).unwrap().to_ne_bytes();
        short[..4].copy_from_slice(&length);
        assert_eq!(taken(&short), (Ok(false), Vec::new()), "a counter without its value is none");
    }
}
