//! One key of one backend, set without reading the rest of the config again: in a large one that takes seconds.
//!
//! What comes out is what the whole way gives, or nothing: then the whole way says what it has to say. (The text of services that
//! are not meant stays to the byte, where the whole way may put the dotted keys of a table side by side.) Weight and state of a
//! backend are nobody else's business, so only its own service is edited and checked. Whatever is out of the ordinary (texts
//! written in another way, findings about services, names, HTTPS checks, an error of any kind) is left to the whole way.

use std::sync::Arc;

use super::{Change, Desired, Override, Quoted, check};
use crate::config::{Config, Diagnostic, Sections, ServiceConfig};
use crate::health::Trust;

impl Desired {
    /// [`Desired::with_override`] of a setting.
    pub(super) fn quick_override(&self, change: &Override) -> Option<Self> {
        let service = self.service_of_setting(&change.change)?;
        let mut overrides = self.overrides.clone();
        overrides.retain(|earlier| !change.change.replaces(&earlier.change));
        overrides.push(change.clone());
        let sections = self.sections.as_deref()?;
        let excerpt = sections.excerpt(&self.text, service)?.text;
        let next = self.checked(
            sections,
            running(excerpt, &overrides, service)?,
            service,
            Quoted::Running,
        )?;
        self.with_service(next, overrides)
    }

    /// [`Desired::with_saved`] of a setting.
    pub(super) fn quick_saved(&self, change: &Change) -> Option<Self> {
        let service = self.service_of_setting(change)?;
        let mut overrides = self.overrides.clone();
        overrides.retain(|earlier| !change.replaces(&earlier.change));
        let sections = self.sections.as_deref()?;
        let excerpt = sections.excerpt(&self.text, service)?;
        let edited = change.apply(&excerpt.text).ok()?;
        let (text, sections) = sections.splice(&self.text, &excerpt, &edited)?;
        let mut next = self.checked(&sections, edited.clone(), service, Quoted::WouldBe)?;
        if !overrides.is_empty() {
            next = self.checked(
                &sections,
                running(edited, &overrides, service)?,
                service,
                Quoted::Running,
            )?;
        }
        let mut next = self.with_service(next, overrides)?;
        if *text != *next.text {
            next.text = text.into();
        }
        next.sections = Some(Arc::new(sections));
        Some(next)
    }

    /// The service of a change that sets something, where nothing stands against the quick way.
    fn service_of_setting<'a>(&self, change: &'a Change) -> Option<&'a str> {
        // The whole way reads the files of roots again, also those of a service that only the file has.
        let removes = |one: &Override| matches!(one.change, Change::RemoveService { .. });
        let is_plain = self.trust == Trust::default() && !self.overrides.iter().any(removes);
        match change {
            Change::Set { service, .. } if is_plain => Some(service),
            _ => None,
        }
    }

    /// The service as an excerpt has it, and the warnings of the whole text: those that there are already.
    fn checked(
        &self,
        sections: &Sections,
        excerpt: String,
        service: &str,
        quoted: Quoted,
    ) -> Option<(Arc<ServiceConfig>, Vec<Diagnostic>)> {
        let (config, warnings) = check(&self.path, &excerpt, &self.host, quoted).ok()?;
        let frame = |config: &Config| (config.agent.clone(), config.limits, config.timeouts, config.dns.clone());
        let stays = |found: &Diagnostic| found.about.is_empty() && found.line <= sections.head_lines();
        let same = |(found, known): (&Diagnostic, &Diagnostic)| {
            (found.code, &found.message, found.line, found.column)
                == (known.code, &known.message, known.line, known.column)
        };
        let as_before = warnings.len() == self.warnings.len() && warnings.iter().zip(&self.warnings).all(same);
        if frame(&config) != frame(&self.config) || !as_before || !warnings.iter().all(stays) {
            return None;
        }
        let found = config.services.into_iter().find(|found| found.name == service)?;
        Some((found, warnings))
    }

    fn with_service(
        &self,
        (service, warnings): (Arc<ServiceConfig>, Vec<Diagnostic>),
        overrides: Vec<Override>,
    ) -> Option<Self> {
        let at = self.places.find(&self.config.services, &service.name)?;
        let mut next = Self {
            warnings,
            overrides,
            ..self.clone()
        };
        *next.config.services.get_mut(at)? = service;
        Some(next)
    }
}

/// An excerpt with the overrides of its service made to it.
fn running(excerpt: String, overrides: &[Override], service: &str) -> Option<String> {
    let mut own = overrides.iter().filter(|one| one.change.service() == service);
    own.try_fold(excerpt, |text, one| match one.change {
        Change::AddService { .. } | Change::RemoveService { .. } => None,
        Change::Add { .. } | Change::Remove { .. } | Change::Set { .. } => one.change.apply(&text).ok(),
    })
}

#[cfg(test)]
mod tests;
