//! `xlb man [DIR]`: man pages of xlb and every subcommand, from the same tree that parses the arguments.

use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use super::args::{Cli, ManArgs};
use super::exit::{CliError, Exit};
use super::output;

/// Writes the pages.
pub(super) fn man(args: &ManArgs) -> Result<Exit, CliError> {
    let pages = pages();
    match &args.dir {
        Some(dir) => pages.iter().try_for_each(|(name, page)| write(dir, name, page))?,
        None => pages.iter().try_for_each(|(_, page)| output::text(page))?,
    }
    Ok(Exit::Ok)
}

fn write(dir: &Path, name: &str, page: &str) -> Result<(), CliError> {
    let file = dir.join(format!("{name}.1"));
    let written = std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&file, page));
    written.map_err(|error| {
        CliError::Problem(format!(
            "man page {}: {error}\n  next: name a directory you may write, such as /usr/local/share/man/man1",
            file.display()
        ))
    })
}

/// (name, text) of each page, xlb's own first.
fn pages() -> Vec<(String, String)> {
    let mut tree = Cli::command();
    tree.build();
    let mut pages = Vec::new();
    collect(&tree, &mut pages);
    pages
}

fn collect(command: &Command, pages: &mut Vec<(String, String)>) {
    let name = command
        .get_display_name()
        .unwrap_or_else(|| command.get_name())
        .to_owned();
    let mut page = Vec::new();
    // Memory takes everything.
    if Man::new(command.clone()).render(&mut page).is_ok() {
        pages.push((name, String::from_utf8_lossy(&page).into_owned()));
    }
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        collect(sub, pages);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_a_heading_and_a_synopsis() {
        let pages = pages();
        for wanted in [
            "xlb",
            "xlb-run",
            "xlb-backend",
            "xlb-backend-add",
            "xlb-flows",
            "xlb-man",
        ] {
            assert!(pages.iter().any(|(name, _)| name == wanted), "{wanted} is missing");
        }
        for (name, page) in &pages {
            assert!(page.contains(".TH "), "{name}");
            assert!(page.contains(".SH SYNOPSIS"), "{name}");
        }
    }

    #[test]
    fn every_command_has_its_part_of_the_page_of_commands() {
        let page = include_str!("../../../docs/cli.md");
        let tree = Cli::command();
        let names = tree.get_subcommands().map(Command::get_name);
        let missing: Vec<&str> = names
            .filter(|name| !page.contains(&format!("\n## `xlb {name}")))
            .collect();
        assert_eq!(missing, Vec::<&str>::new(), "a heading in docs/cli.md for each");
    }
}
