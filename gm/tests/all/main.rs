//! The tests of `gm` against the outside: official vectors, the real `openssl` program, a second implementation, and
//! everything that must be refused. What needs no outside lives beside the code.

#[cfg(test)]
mod chain;
#[cfg(test)]
mod directory;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod interop;
#[cfg(test)]
mod java;
#[cfg(test)]
mod keyfile;
#[cfg(test)]
mod keys_elsewhere;
#[cfg(test)]
mod known;
#[cfg(test)]
mod matrix;
#[cfg(test)]
mod message;
#[cfg(test)]
mod messages_elsewhere;
#[cfg(test)]
mod modes;
#[cfg(test)]
mod openssl;
#[cfg(test)]
mod pki;
#[cfg(test)]
mod seal;
#[cfg(test)]
mod second;
#[cfg(test)]
mod signed;
#[cfg(test)]
mod sm2_cipher;
#[cfg(test)]
mod strict;
#[cfg(test)]
mod time_stamp;
#[cfg(test)]
mod vectors;
