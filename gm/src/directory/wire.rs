//! One anonymous search over LDAP version 3 (RFC 4511): connect, ask, read entries until the server is done. Written by hand on
//! purpose: a directory is somebody else's machine, and the client library at hand ends the process on malformed answers and
//! has no bound on their size (docs/adr/0019-directory.md).

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

use super::{ANSWER_BYTES_MAX, Address, DirectoryError, ENTRIES_MAX, Patience};
use crate::fields::{self, BOOLEAN, INTEGER, OCTETS, SEQUENCE, SET};

const ENUMERATED: u8 = 0x0a;
const SEARCH_REQUEST: u8 = 0x63;
const SEARCH_ENTRY: u8 = 0x64;
const SEARCH_DONE: u8 = 0x65;
const SEARCH_REFERENCE: u8 = 0x73;
const UNBIND: u8 = 0x42;
const EQUALITY: u8 = 0xa3;
/// Values of one attribute.
const VALUES_MAX: usize = 64;

/// All values of the `wanted` attributes in the entries below the base whose `attribute` is `value`.
pub(super) fn search(
    address: &Address,
    patience: &Patience,
    attribute: &str,
    value: &str,
    wanted: &[&str],
) -> Result<Vec<Vec<u8>>, DirectoryError> {
    let deadline = Deadline { patience: *patience, end_ns: end_ns(patience) };
    let mut stream = connect(address, &deadline)?;
    let request = request(&address.base, attribute, value, wanted)?;
    stream.set_write_timeout(Some(deadline.left()?)).map_err(|error| unreachable(&error))?;
    stream.write_all(&request).map_err(|error| deadline.failure(&error))?;
    let found = collect(&mut |bytes| fill(&mut stream, &deadline, bytes), wanted)?;
    // Courtesy only: everything that was wanted is there.
    let _ = stream.write_all(&fields::sequence(&[&[INTEGER, 1, 2], &[UNBIND, 0]]));
    Ok(found)
}

/// Reads messages until the server is done, and takes the values of the `wanted` attributes out of them. `fill` gives exactly
/// the next bytes.
pub(super) fn collect(fill: &mut Fill<'_>, wanted: &[&str]) -> Result<Vec<Vec<u8>>, DirectoryError> {
    let mut answers = Answers { fill, taken: 0 };
    let mut found = Vec::new();
    let mut entries = 0;
    loop {
        let message = answers.next()?;
        let (kind, body) = operation(&message)?;
        match kind {
            SEARCH_ENTRY => {
                entries += 1;
                if entries > ENTRIES_MAX {
                    return Err(DirectoryError::TooMuch("64 entries"));
                }
                read_entry(body, wanted, &mut found)?;
            }
            SEARCH_DONE => {
                read_done(body)?;
                return Ok(found);
            }
            SEARCH_REFERENCE => return Err(DirectoryError::Referral),
            _ => return Err(DirectoryError::NotLdap("an operation that was not asked for")),
        }
    }
}

/// Gives the next bytes of an answer, all that are asked for.
type Fill<'a> = dyn FnMut(&mut [u8]) -> Result<(), DirectoryError> + 'a;

fn fill(stream: &mut TcpStream, deadline: &Deadline, mut bytes: &mut [u8]) -> Result<(), DirectoryError> {
    while !bytes.is_empty() {
        stream.set_read_timeout(Some(deadline.left()?)).map_err(|error| unreachable(&error))?;
        match stream.read(bytes) {
            Ok(0) => return Err(DirectoryError::Unreachable("the connection ended within an answer".into())),
            Ok(count) => bytes = bytes.get_mut(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(deadline.failure(&error)),
        }
    }
    Ok(())
}

/// The whole answer must be there by then.
struct Deadline {
    patience: Patience,
    end_ns: u64,
}

fn end_ns(patience: &Patience) -> u64 {
    (patience.mono_ns)().saturating_add(u64::try_from(patience.limit.as_nanos()).unwrap_or(u64::MAX))
}

impl Deadline {
    fn left(&self) -> Result<Duration, DirectoryError> {
        match self.end_ns.checked_sub((self.patience.mono_ns)()) {
            // Zero would mean "for ever" to a socket.
            Some(left_ns) if left_ns > 1_000_000 => Ok(Duration::from_nanos(left_ns)),
            _ => Err(self.passed()),
        }
    }

    fn passed(&self) -> DirectoryError {
        DirectoryError::TimedOut(self.patience.limit.as_millis())
    }

    fn failure(&self, error: &std::io::Error) -> DirectoryError {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => self.passed(),
            _ => unreachable(error),
        }
    }
}

fn unreachable(error: &std::io::Error) -> DirectoryError {
    DirectoryError::Unreachable(error.to_string())
}

fn connect(address: &Address, deadline: &Deadline) -> Result<TcpStream, DirectoryError> {
    let places = (address.host.as_str(), address.port).to_socket_addrs().map_err(|error| unreachable(&error))?;
    let mut last = DirectoryError::Unreachable("the name has no address".into());
    for place in places.take(8) {
        match TcpStream::connect_timeout(&place, deadline.left()?) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = deadline.failure(&error),
        }
    }
    Err(last)
}

/// `SearchRequest`: the whole subtree, no aliases followed, one equality.
fn request(base: &str, attribute: &str, value: &str, wanted: &[&str]) -> Result<Vec<u8>, DirectoryError> {
    let too_long = || DirectoryError::TooMuch("a name of 1024 bytes");
    if value.len() > 1024 {
        return Err(too_long());
    }
    let number = |value: usize| u32::try_from(value).ok().and_then(|value| fields::number(value).ok());
    let limit = number(ENTRIES_MAX).ok_or_else(too_long)?;
    let attributes: Vec<Vec<u8>> =
        wanted.iter().map(|name| fields::octets(format!("{name};binary").as_bytes())).collect();
    let attributes: Vec<&[u8]> = attributes.iter().map(Vec::as_slice).collect();
    let search = fields::value(
        SEARCH_REQUEST,
        &[
            &fields::octets(base.as_bytes()),
            &[ENUMERATED, 1, 2],
            &[ENUMERATED, 1, 0],
            &limit,
            &[INTEGER, 1, 30],
            &[BOOLEAN, 1, 0],
            &fields::value(EQUALITY, &[&fields::octets(attribute.as_bytes()), &fields::octets(value.as_bytes())]),
            &fields::sequence(&attributes),
        ],
    );
    Ok(fields::sequence(&[&[INTEGER, 1, 1], &search]))
}

/// Messages as they come, all of them together bounded.
struct Answers<'a, 'f> {
    fill: &'a mut Fill<'f>,
    taken: usize,
}

impl Answers<'_, '_> {
    /// The content of the next `LDAPMessage`.
    fn next(&mut self) -> Result<Vec<u8>, DirectoryError> {
        let mut head = vec![0; 2];
        (self.fill)(&mut head)?;
        let more = match head.get(1) {
            Some(length) if *length > 0x80 => usize::from(length & 0x7f),
            _ => 0,
        };
        if head.first() != Some(&SEQUENCE) || more > 8 {
            return Err(DirectoryError::NotLdap("no message"));
        }
        let mut length = vec![0; more];
        (self.fill)(&mut length)?;
        head.extend_from_slice(&length);
        let (_, header, length) = header(&head).ok_or(DirectoryError::NotLdap("no length"))?;
        self.taken = self.taken.saturating_add(header).saturating_add(length);
        if self.taken > ANSWER_BYTES_MAX {
            return Err(DirectoryError::TooMuch("8 MiB"));
        }
        // Grown as bytes come, so that a mere claim of a length costs nothing.
        let mut message = Vec::new();
        while message.len() < length {
            let step = (length - message.len()).min(64 << 10);
            let start = message.len();
            message.resize(start + step, 0);
            (self.fill)(message.get_mut(start..).unwrap_or_default())?;
        }
        Ok(message)
    }
}

/// Tag, length of the header, length of the content. LDAP allows a length in more octets than it needs, and servers use that.
fn header(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (tag, first) = (*bytes.first()?, *bytes.get(1)?);
    if first < 0x80 {
        return Some((tag, 2, usize::from(first)));
    }
    let octets = usize::from(first & 0x7f);
    if octets == 0 || octets > 8 {
        return None;
    }
    let mut length = 0_usize;
    for octet in bytes.get(2..2 + octets)? {
        length = length.checked_mul(256)?.checked_add(usize::from(*octet))?;
    }
    Some((tag, 2 + octets, length))
}

/// Takes the first value off `rest`: its tag and content.
fn take<'a>(rest: &mut &'a [u8]) -> Result<(u8, &'a [u8]), DirectoryError> {
    let cut = || DirectoryError::NotLdap("a value is cut short");
    let (tag, head, length) = header(rest).ok_or_else(cut)?;
    let end = head.checked_add(length).ok_or_else(cut)?;
    let content = rest.get(head..end).ok_or_else(cut)?;
    *rest = rest.get(end..).unwrap_or(&[]);
    Ok((tag, content))
}

fn take_tagged<'a>(rest: &mut &'a [u8], tag: u8, what: &'static str) -> Result<&'a [u8], DirectoryError> {
    match take(rest)? {
        (found, content) if found == tag => Ok(content),
        _ => Err(DirectoryError::NotLdap(what)),
    }
}

/// The operation in a message that answers the one question there is; controls behind it are not asked for and not looked at.
fn operation(message: &[u8]) -> Result<(u8, &[u8]), DirectoryError> {
    let mut rest = message;
    let id = take_tagged(&mut rest, INTEGER, "a message without a number")?;
    if id != [1] {
        return Err(DirectoryError::NotLdap("an answer to another question"));
    }
    take(&mut rest)
}

fn read_entry(body: &[u8], wanted: &[&str], found: &mut Vec<Vec<u8>>) -> Result<(), DirectoryError> {
    const ENTRY: &str = "an entry of another form";
    let mut rest = body;
    take_tagged(&mut rest, OCTETS, ENTRY)?;
    let mut attributes = take_tagged(&mut rest, SEQUENCE, ENTRY)?;
    while !attributes.is_empty() {
        let mut attribute = take_tagged(&mut attributes, SEQUENCE, ENTRY)?;
        let name = take_tagged(&mut attribute, OCTETS, ENTRY)?;
        let mut values = take_tagged(&mut attribute, SET, ENTRY)?;
        let name = name.split(|byte| *byte == b';').next().unwrap_or_default();
        let is_wanted = wanted.iter().any(|one| one.as_bytes().eq_ignore_ascii_case(name));
        while !values.is_empty() {
            let value = take_tagged(&mut values, OCTETS, ENTRY)?;
            if is_wanted {
                if found.len() == VALUES_MAX {
                    return Err(DirectoryError::TooMuch("64 values"));
                }
                found.push(value.to_vec());
            }
        }
    }
    Ok(())
}

fn read_done(body: &[u8]) -> Result<(), DirectoryError> {
    const DONE: &str = "a result of another form";
    let mut rest = body;
    let code = take_tagged(&mut rest, ENUMERATED, DONE)?;
    take_tagged(&mut rest, OCTETS, DONE)?;
    let text = take_tagged(&mut rest, OCTETS, DONE)?;
    match code {
        [0] => Ok(()),
        // The base is not there: as good as nothing found below it.
        [32] => Err(DirectoryError::NotFound),
        [10] => Err(DirectoryError::Referral),
        [4] => Err(DirectoryError::TooMuch("64 entries")),
        [code] => {
            let text: String = String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).take(200).collect();
            let text = if text.is_empty() { text } else { format!(" ({text})") };
            Err(DirectoryError::Refused { code: *code, text })
        }
        _ => Err(DirectoryError::NotLdap(DONE)),
    }
}
