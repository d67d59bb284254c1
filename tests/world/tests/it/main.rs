//! Stories of the simulated world, and the rules that the code's shape keeps.

mod architecture;
mod tidy;
