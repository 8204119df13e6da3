//! Config files as people write them, made from a seed: every way to write services and backends, comments everywhere.

use fastrand::Rng;

/// What a comment is about: it may go when that goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    Service(usize),
    Backend(usize, usize),
    Other,
}

/// A file, with what it says of whom.
pub(super) struct Written {
    pub(super) text: String,
    /// Each is `#c0;` with its number in the text.
    pub(super) comments: Vec<About>,
    /// Backends of each service. Service 1 is `s1`, its backend 2 has the address 10.0.1.2.
    pub(super) backends: Vec<usize>,
}

impl Written {
    pub(super) fn from_seed(seed: u64) -> Self {
        let mut maker = Maker {
            rng: Rng::with_seed(seed),
            text: String::new(),
            comments: Vec::new(),
        };
        let backends: Vec<usize> = (0..maker.rng.usize(1..4)).map(|_| maker.rng.usize(0..5)).collect();
        maker.file(&backends);
        Self {
            text: maker.text,
            comments: maker.comments,
            backends,
        }
    }
}

pub(super) fn address(service: usize, backend: usize) -> String {
    format!("10.0.{service}.{backend}")
}

struct Maker {
    rng: Rng,
    text: String,
    comments: Vec<About>,
}

impl Maker {
    fn put(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.rng.u32(0..n) == 0
    }

    /// A comment to the end of the line, without that end.
    fn comment(&mut self, about: About) {
        let number = self.comments.len();
        self.comments.push(about);
        self.put(&format!("#c{number};"));
        if self.one_in(3) {
            self.put(" {it's}, \"here\" ] = 1");
        }
    }

    /// Comments and blank lines between lines: some stand apart, some right above what comes next.
    fn above(&mut self, indent: &str, next: About) {
        match self.rng.u32(0..4) {
            0 => {
                self.put(indent);
                self.comment(About::Other);
                let blanks = self.rng.choice(["\n\n", "\n  \n", "\n\n\n"]).unwrap_or("\n\n");
                self.put(blanks);
            }
            1 => self.put("\n"),
            _ => {}
        }
        if self.one_in(3) {
            self.put(indent);
            self.comment(next);
            self.put("\n");
        }
    }

    fn end_of_line(&mut self, about: About) {
        if self.one_in(3) {
            self.put(" ");
            self.comment(about);
        }
        self.put("\n");
    }

    fn file(&mut self, backends: &[usize]) {
        self.above("", About::Other);
        let inline = self.one_in(3);
        if inline || self.one_in(2) {
            self.put("agent.interfaces = [\"eth0\"]");
        } else {
            self.put("[agent]\ninterfaces = [\"eth0\"]");
        }
        self.end_of_line(About::Other);
        if inline {
            self.put("service = ");
            self.list("", backends.len(), About::Service, &mut |maker, index| {
                maker.inline_service(index, backends[index]);
            });
            self.end_of_line(About::Other);
        } else {
            for (index, count) in backends.iter().enumerate() {
                self.service(index, *count);
            }
        }
        if self.one_in(2) {
            self.above("", About::Other);
            self.put("[limits]\nservices = 10");
            self.end_of_line(About::Other);
        }
        self.above("", About::Other);
    }

    fn service(&mut self, index: usize, count: usize) {
        let own = About::Service(index);
        self.above("", own);
        let first = self.comments.len();
        self.put("[[service]]");
        self.end_of_line(own);
        let mut keys = vec![
            format!("name = \"s{index}\""),
            format!("vip = [\"203.0.113.{index}\"]"),
            "port = 80".to_owned(),
        ];
        let check_table = match self.rng.u32(0..4) {
            0 => {
                // Together: where other keys stand between them, toml_edit writes them together.
                keys.push("check.tcp = {}\ncheck.interval = \"3s\"".to_owned());
                false
            }
            1 => true,
            _ => false,
        };
        self.rng.shuffle(&mut keys);
        for key in keys {
            if self.one_in(6) {
                self.comment(own);
                self.put("\n");
            }
            self.put(&key);
            self.end_of_line(own);
        }
        let listed = self.one_in(2);
        if listed && (count > 0 || self.one_in(2)) {
            self.put("backend = ");
            self.backend_list("", index, count);
            self.end_of_line(own);
        }
        let check_after = if check_table {
            self.rng.usize(0..=count)
        } else {
            usize::MAX
        };
        for backend in 0..=count {
            if backend == check_after {
                self.above("", own);
                self.put("[service.check.http]");
                self.end_of_line(own);
                self.put("path = \"/up\"");
                self.end_of_line(own);
            }
            if !listed && backend < count {
                self.backend_table(index, backend);
            }
        }
        self.belongs(first, own);
    }

    fn backend_table(&mut self, service: usize, backend: usize) {
        let own = About::Backend(service, backend);
        self.above("", own);
        self.put("[[service.backend]]");
        self.end_of_line(own);
        let mut keys = self.backend_keys(service, backend);
        let check_table = self.one_in(5);
        if check_table {
            keys.retain(|key| !key.starts_with("check"));
        }
        for key in keys {
            self.put(&key);
            self.end_of_line(own);
        }
        if check_table {
            self.put("[service.backend.check]\ntcp = {}");
            self.end_of_line(own);
        }
    }

    fn backend_keys(&mut self, service: usize, backend: usize) -> Vec<String> {
        let mut keys = vec![format!("address = \"{}\"", address(service, backend))];
        for key in [
            "weight = 7",
            "state = \"drain\"",
            "state = \"ready\"",
            "check.tcp = {}",
            "port = 81",
        ] {
            if self.one_in(4) && !keys.iter().any(|there| there.starts_with(&key[..5])) {
                keys.push(key.to_owned());
            }
        }
        if self.one_in(3) {
            keys.push(format!("name = \"b{backend}\""));
        }
        self.rng.shuffle(&mut keys);
        keys
    }

    fn inline_service(&mut self, index: usize, count: usize) {
        let mut keys = vec![
            format!("name = \"s{index}\""),
            format!("vip = \"203.0.113.{index}\""),
            "port = 80".to_owned(),
        ];
        self.rng.shuffle(&mut keys);
        let place = self.rng.usize(0..=keys.len());
        if count > 0 || self.one_in(2) {
            keys.insert(place, String::new());
        }
        self.braces("    ", About::Service(index), keys.len(), &mut |maker, nth| {
            if keys[nth].is_empty() {
                maker.put("backend = ");
                maker.backend_list("      ", index, count);
            } else {
                maker.put(&keys[nth]);
            }
        });
    }

    fn backend_list(&mut self, indent: &str, service: usize, count: usize) {
        let inner = format!("{indent}    ");
        let about = |backend| About::Backend(service, backend);
        self.list(indent, count, about, &mut |maker, backend| {
            let keys = maker.backend_keys(service, backend);
            maker.braces(&inner, about(backend), keys.len(), &mut |maker, nth| {
                maker.put(&keys[nth]);
            });
        });
    }

    /// `{ ... }`, on one line, or with lines and comments as TOML 1.1 has them.
    fn braces(&mut self, indent: &str, own: About, count: usize, key: &mut dyn FnMut(&mut Self, usize)) {
        let first = self.comments.len();
        let (lines, blank) = (self.one_in(4), if self.one_in(4) { "" } else { " " });
        self.put("{");
        for nth in 0..count {
            if lines {
                self.end_of_line(own);
                self.above(indent, own);
                self.put(indent);
                self.put("  ");
            } else {
                self.put(if nth > 0 { " " } else { blank });
            }
            key(self, nth);
            if nth + 1 < count || (lines && self.one_in(2)) {
                self.put(",");
            }
        }
        if lines {
            self.end_of_line(own);
            self.above(indent, own);
            self.put(indent);
        } else {
            self.put(blank);
        }
        self.put("}");
        self.belongs(first, own);
    }

    /// Comments since `first` that are about nothing else are about this.
    fn belongs(&mut self, first: usize, own: About) {
        for about in self
            .comments
            .iter_mut()
            .skip(first)
            .filter(|about| **about == About::Other)
        {
            *about = own;
        }
    }

    /// `[ ... ]`: on one line, on lines, with the comma before or behind, and mixtures of those.
    fn list(
        &mut self,
        indent: &str,
        count: usize,
        about: impl Fn(usize) -> About,
        entry: &mut dyn FnMut(&mut Self, usize),
    ) {
        // Never, always, or sometimes on a new line.
        let chance = self.rng.choice([u32::MAX, 1, 1, 2]).unwrap_or(1);
        let inner = format!("{indent}    ");
        // Whom a comment at the end of the line is about; where entries share the line, it is about none of them alone.
        let mut line_is = About::Other;
        self.put("[");
        for nth in 0..count {
            let new_line = self.one_in(chance);
            if new_line {
                self.end_of_line(line_is);
                self.above(&inner, about(nth));
                self.put(&inner);
            } else if nth > 0 || self.one_in(2) {
                self.put(" ");
            }
            entry(self, nth);
            line_is = if new_line || nth == 0 { about(nth) } else { About::Other };
            if chance != u32::MAX && self.one_in(5) {
                self.end_of_line(line_is);
                self.above(&inner, About::Other);
                self.put(&inner);
                line_is = About::Other;
            }
            if nth + 1 < count || self.one_in(2) {
                self.put(",");
            }
        }
        if self.one_in(chance) {
            self.end_of_line(line_is);
            self.above(&inner, About::Other);
            self.put(indent);
        }
        self.put("]");
    }
}
