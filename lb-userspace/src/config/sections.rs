//! A checked text cut at the headers of its services, so that a change of one service need not read the others again. Pure.
//!
//! It only knows texts as nearly everybody writes them: each service below its own `[[service]]`, with what is its own right
//! behind. Of any other there are no sections, and a change reads the whole text.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::Config;

/// Tables of a file that are no services.
const OTHERS: [&str; 4] = ["agent", "limits", "timeouts", "dns"];

/// Where the services of one text stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sections {
    /// In the order of the text; the first starts at 0.
    starts: Vec<Start>,
    by_name: Arc<HashMap<String, usize>>,
    /// Lines above the first service.
    head_lines: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Start {
    at: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Service,
    Other,
}

/// One service and the section behind it, between everything that is no service: what an edit of that service may touch, and
/// all that its own check needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// A config of its own.
    pub text: String,
    /// What may change of it.
    inside: Range<usize>,
    /// Where that stands in the whole text.
    outside: Range<usize>,
    /// The service's section.
    index: usize,
}

impl Sections {
    /// Those of a text that was checked to be `config`.
    pub fn of(text: &str, config: &Config) -> Option<Self> {
        // Lines inside strings may look like headers; backends by name depend on more than the text.
        if text.contains("\"\"\"") || text.contains("'''") || text.contains('\r') || config.has_names() {
            return None;
        }
        // A whole edit would end the last line.
        if !text.ends_with('\n') {
            return None;
        }
        let starts = scan(text)?;
        let services = || {
            starts
                .iter()
                .enumerate()
                .filter(|(_, start)| start.kind == Kind::Service)
        };
        if services().count() != config.services.len() {
            return None;
        }
        let names = services().zip(&config.services);
        let by_name = names.map(|((index, _), service)| (service.name.clone(), index));
        let first = services().next().map_or(text.len(), |(_, start)| start.at);
        Some(Self {
            by_name: Arc::new(by_name.collect()),
            head_lines: text.get(..first)?.matches('\n').count(),
            starts,
        })
    }

    /// Lines above the first service: they stay where they are.
    pub fn head_lines(&self) -> usize {
        self.head_lines
    }

    /// What an edit of a service needs.
    pub fn excerpt(&self, text: &str, service: &str) -> Option<Excerpt> {
        let index = *self.by_name.get(service)?;
        let outside = self.start(index, text)..self.start(index + 2, text);
        let mut excerpt = String::new();
        let mut inside = 0..0;
        for (at, start) in self.starts.iter().enumerate() {
            if at == index {
                inside = excerpt.len()..excerpt.len() + outside.len();
            }
            if start.kind == Kind::Other || at == index || at == index + 1 {
                excerpt.push_str(text.get(start.at..self.start(at + 1, text))?);
            }
        }
        Some(Excerpt {
            text: excerpt,
            inside,
            outside,
            index,
        })
    }

    /// The whole text with an edited excerpt in its place; `None` where the edit went further.
    pub fn splice(&self, text: &str, excerpt: &Excerpt, edited: &str) -> Option<(String, Self)> {
        let (before, after) = (
            excerpt.text.get(..excerpt.inside.start)?,
            excerpt.text.get(excerpt.inside.end..)?,
        );
        let middle = edited.strip_prefix(before)?.strip_suffix(after)?;
        let mut starts = self.starts.clone();
        let old = starts.get(excerpt.index..(excerpt.index + 2).min(starts.len()))?;
        // The comments above the first header are the section's before.
        let new = scan(middle)?;
        if new
            .iter()
            .map(|start| start.kind)
            .ne(old.iter().map(|start| start.kind))
            || new.first()?.at != 0
        {
            return None;
        }
        let (from, behind) = (excerpt.outside.start, excerpt.outside.end);
        for (start, new) in starts.iter_mut().skip(excerpt.index).zip(&new) {
            start.at = from + new.at;
        }
        for start in starts.iter_mut().skip(excerpt.index + 2) {
            start.at = start.at - behind + from + middle.len();
        }
        let spliced = [text.get(..from)?, middle, text.get(behind..)?].concat();
        Some((spliced, Self { starts, ..self.clone() }))
    }

    fn start(&self, index: usize, text: &str) -> usize {
        self.starts.get(index).map_or(text.len(), |start| start.at)
    }
}

/// The sections of a text, or of a part that begins with a header; `None`: it is written in another way.
fn scan(text: &str) -> Option<Vec<Start>> {
    let mut starts = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim_start_matches([' ', '\t']);
        if trimmed.starts_with('[') {
            match header(trimmed)? {
                Header::Section(kind) => starts.push(Start { at, kind }),
                Header::InService if starts.last().is_some_and(|last| last.kind == Kind::Service) => {}
                Header::InService => return None,
            }
        } else if at == 0 {
            starts.push(Start { at, kind: Kind::Other });
        }
        at += line.len();
    }
    Some(starts)
}

enum Header {
    Section(Kind),
    /// A part of the service above.
    InService,
}

fn header(line: &str) -> Option<Header> {
    let name = line.trim_start_matches('[');
    if line.starts_with("[[service]]") {
        return Some(Header::Section(Kind::Service));
    }
    if name.starts_with("service.") {
        return Some(Header::InService);
    }
    let is_it = |known: &str| {
        let rest = name.strip_prefix(known);
        rest.is_some_and(|rest| rest.starts_with([']', '.']))
    };
    OTHERS.into_iter().any(is_it).then_some(Header::Section(Kind::Other))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const TEXT: &str = "# ours\n[agent]\ninterfaces = [\"eth0\"]\n\n# web\n[[service]]\nname = \"web\"\nvip = \"203.0.113.1\"\nport = 80\n\
        [[service.backend]]\naddress = \"10.0.0.1\"\n[limits]\nservices = 9\n[[service]]\nname = \"dns\"\nvip = \"203.0.113.1\"\n\
        port = 53\nbackend = [\n  { address = \"10.0.0.2\" },\n]\n[[service]]\nname = \"ssh\"\nvip = \"203.0.113.1\"\nport = 22\n\
        [[service.backend]]\naddress = \"10.0.0.3\"\n";

    fn sections(text: &str) -> Option<Sections> {
        let (config, _) = crate::config::parse(Path::new("x.toml"), text).expect("a good config");
        Sections::of(text, &config)
    }

    #[test]
    fn an_excerpt_has_its_service_the_section_behind_it_and_all_that_is_no_service() {
        let found = sections(TEXT).expect("sections");
        assert_eq!(found.head_lines(), 5);
        let web = found.excerpt(TEXT, "web").expect("web").text;
        assert!(
            web.starts_with(TEXT.split("[[service]]").next().expect("a head")),
            "{web}"
        );
        assert!(web.contains("\"web\"") && web.ends_with("services = 9\n"), "{web}");
        let dns = found.excerpt(TEXT, "dns").expect("dns").text;
        assert!(
            dns.contains("[limits]") && dns.contains("\"ssh\"") && !dns.contains("\"web\""),
            "{dns}"
        );
        assert_eq!(found.excerpt(TEXT, "www"), None);
    }

    #[test]
    fn a_splice_moves_what_is_behind_it() {
        let found = sections(TEXT).expect("sections");
        let excerpt = found.excerpt(TEXT, "dns").expect("dns");
        let edited = excerpt.text.replace("10.0.0.2", "10.0.0.222");
        let (text, moved) = found.splice(TEXT, &excerpt, &edited).expect("spliced");
        assert_eq!(text, TEXT.replace("10.0.0.2", "10.0.0.222"));
        assert_eq!(Some(moved), sections(&text));
        let elsewhere = excerpt.text.replace("services = 9", "services = 8");
        assert_eq!(found.splice(TEXT, &excerpt, &elsewhere), None);
    }

    #[test]
    fn texts_written_in_another_way_have_no_sections() {
        for other in [
            TEXT.replace("# ours\n", "# \"\"\"\n"),
            TEXT.replace('\n', "\r\n"),
            TEXT.replace("[[service]]\nname = \"dns\"", "[[ service ]]\nname = \"dns\""),
            TEXT.replace("[[service]]\nname = \"ssh\"", "[['service']]\nname = \"ssh\""),
            TEXT.replace("\"10.0.0.3\"", "\"db.example\""),
        ] {
            assert_eq!(sections(&other), None, "{other}");
        }
    }
}
