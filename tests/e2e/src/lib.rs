//! What the stories of `tests/it` stand on: the built binary, and real peers around it.
//!
//! Nothing of Signalbox is linked here: the stories see what a user sees, the wire, the verbs and the tables.
//! Every server is started by the story that needs it on loopback addresses of its own, and is gone when the test
//! process is, however that ends ([`janitor`]).

pub mod asterisk;
pub mod client;
pub mod contract;
pub mod edge;
pub mod http;
pub mod janitor;
pub mod kamailio;
pub mod load;
pub mod message;
pub mod name_server;
pub mod netns;
pub mod phone;
pub mod postgres;
pub mod process;
pub mod sipp;
pub mod tap;
pub mod wait;
pub mod world;

pub use edge::{Edge, Said};
pub use message::Message;
pub use phone::Phone;
pub use process::Process;
pub use world::World;
