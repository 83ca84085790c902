//! One line of JSON over a unix socket, with at most one file descriptor beside it (SCM_RIGHTS): how the helper hands the counters
//! of an order's traffic to an agent that may not look for them. What the line says is `request.rs`.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

/// Sends a line, the descriptor with its first byte.
///
/// # Errors
/// What the socket says.
pub fn send_line(socket: impl AsFd, line: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut rest = line;
    let mut descriptor = descriptor.map(|fd| [fd]);
    while !rest.is_empty() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if let Some(fds) = &descriptor {
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        match sendmsg(&socket, &[IoSlice::new(rest)], &mut control, SendFlags::NOSIGNAL) {
            Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        descriptor = None;
    }
    Ok(())
}

/// Reads up to the end of a line, of the connection, or to `bytes_max`; the first descriptor that comes along is kept, any other
/// closed.
///
/// # Errors
/// What the socket says; its own time limit is an error, too.
pub fn receive_line(socket: impl AsFd, bytes_max: usize) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let (mut line, mut descriptor) = (Vec::new(), None);
    let mut part = [0_u8; 4096];
    while line.len() < bytes_max {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let room = part.len().min(bytes_max - line.len());
        let buffer = part.get_mut(..room).unwrap_or_default();
        let got = match recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) => message.bytes,
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                for fd in fds {
                    descriptor.get_or_insert(fd);
                }
            }
        }
        let bytes = part.get(..got).unwrap_or_default();
        match bytes.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                line.extend(bytes.get(..end).unwrap_or_default());
                break;
            }
            None if got == 0 => break,
            None => line.extend(bytes),
        }
    }
    Ok((line, descriptor))
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read, Seek, Write},
        os::unix::net::UnixStream,
    };

    use super::*;

    fn pair() -> (UnixStream, UnixStream) {
        UnixStream::pair().unwrap()
    }

    #[test]
    fn a_line_comes_with_its_descriptor_and_without() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"counted").unwrap();
        file.rewind().unwrap();
        let (here, there) = pair();
        send_line(&there, b"{\"a\":1}\nrest", Some(file.as_fd())).unwrap();
        let (line, fd) = receive_line(&here, 100).unwrap();
        assert_eq!(line, b"{\"a\":1}");
        let mut text = String::new();
        File::from(fd.unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "counted");
        let (here, there) = pair();
        send_line(&there, b"plain\n", None).unwrap();
        let (line, fd) = receive_line(&here, 100).unwrap();
        assert_eq!((line.as_slice(), fd.is_none()), (&b"plain"[..], true));
    }

    #[test]
    fn what_is_too_long_ends_at_its_limit_and_what_ends_early_is_what_came() {
        let (here, there) = pair();
        let long = vec![b'x'; 20_000];
        let sender = std::thread::spawn(move || send_line(&there, &long, None));
        assert_eq!(receive_line(&here, 10_000).unwrap().0.len(), 10_000);
        drop(here);
        sender.join().unwrap().ok();
        let (here, there) = pair();
        (&there).write_all(b"half").unwrap();
        drop(there);
        assert_eq!(receive_line(&here, 100).unwrap().0, b"half");
    }

    #[test]
    fn descriptors_that_nobody_asked_for_do_not_stay_open() {
        let null = File::open("/dev/null").unwrap();
        let same = || {
            let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
            open.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|path| path == std::path::Path::new("/dev/null")))
                .count()
        };
        let before = same();
        for _ in 0..200 {
            let (here, there) = pair();
            let (first, second) = (null.as_fd(), null.as_fd());
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let two = [first, second];
            assert!(control.push(SendAncillaryMessage::ScmRights(&two)));
            sendmsg(&there, &[IoSlice::new(b"a\n")], &mut control, SendFlags::empty()).unwrap();
            receive_line(&here, 100).unwrap();
        }
        assert!(same() <= before + 5, "{before} before, {} after", same());
    }
}
