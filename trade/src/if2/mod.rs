//! Interface IF2 of the draft standard (clause 8, table 1), transport-neutral: one signed envelope, one table of interfaces,
//! one of topics, typed bodies. MQTT itself is known only to `link.rs` of agent and platform.

mod blocks;
mod demand;
mod envelope;
mod message;
pub mod peers;
pub mod protected;
pub mod public;
mod question;
mod session;
mod topic;

pub use blocks::Blocks;
pub use demand::{DEMANDS_MAX, DemandList, DemandResponse, Demands};
pub use envelope::{Envelope, MESSAGE_BYTES_MAX, Opened, Payload, content_id};
pub use message::{
    Accepted, AccountHeld, AccountTold, Answer, BillPush, Browse, Catalogue, EntryProof, Fetch, Held, Offered,
    OrderChange, PaymentConfirm, PaymentState, Problem, Product, ProductDelivery, ProductPrice, ProductSla,
    Qualification, Remedy, Sealed, SendOrder, ShopProfile,
};
pub use question::{BillList, BillQuery, BillView, RefundAmount, RefundState};
pub use session::{AuthCode, Authorised, Logout, TokenGiven, TokenRequest, UserInfo, UserState};
pub use topic::{Delivery, Interface, PLATFORM, Said, Told, Topic, segment_ok};
