//! What the demo prints: headlines and lines, and a block that is rewritten in place on a terminal and printed anew
//! anywhere else.

use std::io::{IsTerminal, Write, stdout};
use std::time::Instant;

use anyhow::{Context, Result};

/// Standard output. A closed pipe is an error like any other, and ends the demo with its clean-up.
#[derive(Debug)]
pub(super) struct Screen {
    kind: Kind,
    start: Instant,
    /// Lines of the block that the next one replaces.
    block_lines: usize,
}

/// What standard output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Understands cursor movement.
    Terminal,
    /// A pipe or a file.
    Stream,
}

impl Screen {
    pub(super) fn new() -> Self {
        let terminal = stdout().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        Self {
            kind: if terminal { Kind::Terminal } else { Kind::Stream },
            start: Instant::now(),
            block_lines: 0,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// One line below everything.
    pub(super) fn line(&mut self, text: &str) -> Result<()> {
        self.block_lines = 0;
        write_out(&format!("{text}\n"))
    }

    /// A headline with the seconds since the start.
    pub(super) fn headline(&mut self, text: &str) -> Result<()> {
        let seconds = self.start.elapsed().as_secs();
        match self.kind {
            Kind::Terminal => self.line(&format!("\n\x1b[1m[{seconds:>2} s] {text}\x1b[0m")),
            Kind::Stream => self.line(&format!("\n[{seconds:>2} s] {text}")),
        }
    }

    /// Several lines, indented.
    pub(super) fn indented(&mut self, text: &str) -> Result<()> {
        text.trim_end()
            .lines()
            .try_for_each(|line| self.line(&format!("    {line}")))
    }

    /// A block that takes the place of the one before it.
    pub(super) fn block(&mut self, text: &str) -> Result<()> {
        let up = match (self.kind, self.block_lines) {
            (Kind::Terminal, lines @ 1..) => format!("\x1b[{lines}A\x1b[J"),
            (Kind::Stream, 1..) => "\n".to_owned(),
            _ => String::new(),
        };
        let text = text.trim_end();
        write_out(&format!("{up}{text}\n"))?;
        self.block_lines = text.lines().count();
        Ok(())
    }
}

fn write_out(text: &str) -> Result<()> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("write to standard output")
}
