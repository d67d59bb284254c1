//! Stories of the table.
