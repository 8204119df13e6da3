//! Signals while the kernel verifies the program, as a reload during the start brings them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use aya::EbpfLoader;
use aya::programs::Xdp;
use lb_common::names;
use lb_userspace::dataplane::uninterrupted;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use xlb_tests::require;

/// More than aya's own two attempts take.
const SIGNALS: u32 = 4;
/// Shorter than a verification, which lasts a good part of a second.
const BETWEEN: Duration = Duration::from_millis(20);

extern "C" fn nothing(_: i32) {}

#[test]
fn signals_during_the_verification_do_not_fail_the_load() -> Result<()> {
    require!();
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler does nothing, so it may run at any moment; no other test uses this signal.
    unsafe { sigaction(Signal::SIGUSR1, &action) }?;

    let mut object = EbpfLoader::new().load(lb_userspace::BPF_OBJECT)?;
    let program: &mut Xdp = object
        .program_mut(names::PROGRAM_XDP)
        .context("no program")?
        .try_into()?;
    // SAFETY: it takes nothing and cannot fail.
    let loader = unsafe { libc::pthread_self() };
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..SIGNALS {
                thread::sleep(BETWEEN);
                if ended.load(Ordering::Acquire) {
                    return;
                }
                // SAFETY: the loader waits for this thread before it ends.
                unsafe { libc::pthread_kill(loader, libc::SIGUSR1) };
            }
        });
        let loaded = uninterrupted(|| program.load());
        ended.store(true, Ordering::Release);
        loaded
    })?;
    Ok(())
}
