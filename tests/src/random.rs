//! Random configurations and packet sequences for the differential test, all from one seed; and how a failing sequence
//! is made short.

mod script;
mod traffic;
mod worlds;

pub use script::{Failure, REAL_TIME_LIMIT, Script, Step, shrink};
pub use traffic::Traffic;
pub use worlds::random_world;
