//! Where a call goes: one pure function, used by the live engine and by whoever wants it explained.

mod asked;
mod choose;
mod explain;
mod numbers;
mod path;
mod select;

pub use asked::Asked;
pub use choose::{Ask, Choice, Chosen, choose, tenant_of};
pub use explain::{Answer, Question, explain};
pub(crate) use explain::{is_user, phone};
pub(crate) use numbers::{Owners, e164_of};
pub use path::{by_path, path_of};
pub use select::{Nobody, Query, Route, Source, select};
