//! Warnings of the check that the answer to a change carries.

use super::{Change, Desired};
use crate::config::{About, Diagnostic};
use crate::view::WarningView;

/// What a change that takes the last backend out is told anyway, with the command that undoes it.
const TAKEN_OUT: [&str; 3] = ["XLB0301", "XLB0305", "XLB0313"];

impl Desired {
    /// Warnings about what was changed, and those that came with the change. `said`: what the answer says already.
    pub fn warnings_after(
        &self,
        change: &Change,
        backend: Option<&str>,
        before: &Self,
        said: &[WarningView],
    ) -> Vec<WarningView> {
        let is_its = |about: &About| {
            let same = about.backend.as_deref() == backend || about.backend.is_none() || backend.is_none();
            same && about.service == change.service()
        };
        let was_there = |found: &Diagnostic| {
            let same = |other: &Diagnostic| (other.code, &other.message) == (found.code, &found.message);
            before.warnings.iter().any(same)
        };
        let wanted = |found: &&Diagnostic| {
            let told = !said.is_empty() && TAKEN_OUT.contains(&found.code);
            !told && (found.about.iter().any(is_its) || !was_there(found))
        };
        self.warnings.iter().filter(wanted).map(view).collect()
    }
}

fn view(found: &Diagnostic) -> WarningView {
    WarningView {
        code: found.code.to_owned(),
        message: format!("{}:{}: {}", found.file, found.line, found.message),
        next: found.help.clone(),
    }
}
