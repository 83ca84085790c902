//! The tests of `gm` against the outside: official vectors, the real `openssl` program, a second implementation, and
//! everything that must be refused. What needs no outside lives beside the code.

#[cfg(test)]
mod keyfile;
#[cfg(test)]
mod openssl;
