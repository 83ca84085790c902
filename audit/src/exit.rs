//! The exit statuses of the command contract (DESIGN section 10), shared by `hufu` and `hufu-platform`.

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or checked and right (`warn` included).
    Done = 0,
    /// Checked, and the answer is no.
    No = 1,
    /// Wrong usage.
    Usage = 2,
    /// Malformed input.
    Malformed = 65,
    /// Peer, broker or agent not reachable (one-shot commands only).
    Unavailable = 69,
    /// Our own bug.
    Software = 70,
    /// Input or output failed: file absent, unreadable, not writable, in use; port in use.
    Io = 74,
    /// Configuration wrong, key file mode too open.
    Config = 78,
    /// Ctrl-C.
    Interrupted = 130,
}

/// A command that could not do its work: the status and one clear line naming what, where and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure<T> {
    /// The exit status.
    pub exit: Exit,
    /// The line for stderr.
    pub text: T,
}

impl<T> Failure<T> {
    /// A failure with its line.
    pub fn new(exit: Exit, text: T) -> Self {
        Self { exit, text }
    }
}
