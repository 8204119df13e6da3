//! Rise and fall: what a row of probe results makes of a backend. Pure; time is an argument.

/// What the checks say about a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HealthState {
    /// No probe has ended yet.
    #[default]
    Unknown,
    /// Passes its checks.
    Up,
    /// Fails its checks.
    Down,
}
