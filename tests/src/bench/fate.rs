//! What must become of the packets of a run, and whether it did.

use anyhow::{Result, anyhow, ensure};

use super::driver::Timed;
use crate::kernel::action;
use crate::model::Reason;
use crate::packets::{hex, oracle};

/// What must become of the packets of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Forwarded, and counted as received by a backend.
    ToBackend,
    /// Forwarded, and counted as sent by a backend.
    ToClient,
    /// Counted under this reason.
    Counted(Reason),
}

impl Fate {
    /// Fails where not every packet was counted so, or where the last one left by another action or with wrong checksums.
    pub(super) fn verify(self, timed: &Timed, turns: u32, met: u64) -> Result<()> {
        ensure!(
            met == u64::from(turns),
            "of {turns} packets only {met} were {self:?}; the last one's action was {}",
            timed.action
        );
        let wanted = match self {
            // Each side's packets leave by the other side's interface.
            Self::ToBackend | Self::ToClient => action::REDIRECT,
            Self::Counted(Reason::Pass(_)) => action::PASS,
            Self::Counted(Reason::Drop(_)) => action::DROP,
            // Back where it came from, which the client side's interface does by TX.
            Self::Counted(Reason::Answer(_)) => action::TX,
        };
        ensure!(timed.action == wanted, "action {} for {self:?}", timed.action);
        if ![action::PASS, action::DROP].contains(&wanted) {
            oracle::check(&timed.frame).map_err(|fault| anyhow!("{self:?}: {fault:?} in {}", hex(&timed.frame)))?;
        }
        Ok(())
    }
}
