//! Which scenes may run beside others in one test program.
//!
//! Each scene has namespaces of its own, so most share the machine; one that measures time under load takes it alone.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static MACHINE: RwLock<()> = RwLock::new(());

/// A share of the machine, for as long as the value lives.
pub fn shared() -> RwLockReadGuard<'static, ()> {
    // A scene that panicked holds nothing that another could find broken.
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

/// The whole machine, for as long as the value lives.
pub fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}
