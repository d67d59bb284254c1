//! Where a call goes: one pure function, used by the live engine and by whoever wants it explained.

mod explain;
mod path;
mod select;

pub use explain::explain;
pub use path::{by_path, path_of};
pub use select::{Nobody, Query, Route, Source, select};
