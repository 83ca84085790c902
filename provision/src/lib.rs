//! What a node asks of whoever makes the places of its orders, and how it asks: the site's own command (JSON on standard
//! input, answer on standard output) or the root helper `hufu-provision` behind its socket (one line of JSON each way). Both
//! speak the same words, so a site's command works under either.
//!
//! What not: when to ask is the agent's part, what a place costs the trade's. The program of this package is `main.rs` and
//! the modules it names; this library is all of it that the agent links.

mod answer;
mod command;
mod descriptor;
mod error;
mod passwd;
mod request;

pub use answer::{Answer, Interface, Network, Side};
pub use command::{ask, run};
pub use descriptor::{receive_line, send_line};
pub use error::Error;
pub use passwd::ids_of;
pub use request::{ORDER_CHARS, QUANTITY_MAX, Request, Verb};
