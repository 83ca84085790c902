//! The texts of a record: each kind with its own characters and its own limit, checked once, when made.

use core::fmt;

use heapless::String;

use crate::{Error, Field};

/// Declares a text type: its capacity, its error field, and which bytes it may hold.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $max:literal, $field:ident, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq)]
        pub struct $name(String<$max>);

        impl $name {
            /// Most bytes.
            pub const BYTES_MAX: usize = $max;

            /// Takes a text of this kind.
            ///
            /// # Errors
            /// [`Error::TooLong`] beyond [`Self::BYTES_MAX`]; [`Error::Invalid`] when empty or with other characters.
            pub fn new(text: &str) -> Result<Self, Error> {
                let allowed: fn(u8) -> bool = $allowed;
                if text.len() > $max {
                    return Err(Error::TooLong { field: Field::$field, max: $max });
                }
                if text.is_empty() || !text.bytes().all(allowed) {
                    return Err(Error::Invalid { field: Field::$field });
                }
                String::try_from(text).map(Self).map_err(|_| Error::TooLong { field: Field::$field, max: $max })
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }
    };
}

text! {
    /// Name of a site or node, fit for a topic: `[a-z0-9_-]{1,64}`.
    Segment, 64, Segment, |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-')
}
text! {
    /// Serial number of the machine, as its maker prints it: 1 to 64 printable ASCII characters.
    SerialNumber, 64, SerialNumber, |byte| matches!(byte, b' '..=b'~')
}
text! {
    /// Where a key is: a path or the name a key store knows it by; 1 to 128 printable ASCII characters.
    KeyReference, 128, KeyReference, |byte| matches!(byte, b' '..=b'~')
}
text! {
    /// Host name or address of a broker: 1 to 253 of `[A-Za-z0-9.:_-]`.
    Host, 253, Host, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b':' | b'_' | b'-')
}
