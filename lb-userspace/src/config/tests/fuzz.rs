//! No input makes the parser panic, and what it says has a place in the file.

use std::path::Path;

use proptest::prelude::*;

use super::{SMALL, parse, parse_bytes};
use crate::config::Severity;

/// Pieces that get further than noise does.
const PIECES: &[&str] = &[
    "[agent]",
    "[[service]]",
    "[[service.backend]]",
    "[limits]",
    "[timeouts]",
    "[service]",
    "service = ",
    "agent = ",
    "interfaces",
    "vip",
    "port",
    "address",
    "name",
    "check",
    "tcp",
    "http",
    "weight",
    "snat_ports",
    "backend",
    "mode",
    "internal_port",
    "status",
    "path",
    "interval",
    " = ",
    " = ",
    " = ",
    "\n",
    "\n",
    "\n",
    "[",
    "]",
    "{",
    "}",
    ",",
    "\"",
    "'",
    "\"\"\"",
    ".",
    "#",
    "\r\n",
    "\r",
    "\u{feff}",
    "\u{0}",
    "é",
    "世",
    "👍🏽",
    "\u{202e}",
    "\t",
    "0",
    "-1",
    "65536",
    "99999999999999999999999",
    "0x1F",
    "1e9",
    "nan",
    "true",
    "1979-05-27",
    "\"10.0.0.1\"",
    "\"2001:db8::1\"",
    "\"eth0\"",
    "\"a\"",
    "\"10s\"",
    "\"1-2\"",
    "\"full_nat\"",
    "\"dsr_gue\"",
    "\"::ffff:1.2.3.4\"",
    "\"224.0.0.1\"",
];

fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    let (failed, found) = match parse_bytes(Path::new("x.toml"), bytes) {
        Ok((_, warnings)) => (false, warnings),
        Err(errors) => (true, errors),
    };
    let errors = found.iter().filter(|one| one.severity == Severity::Error).count();
    prop_assert_eq!(failed, errors > 0);
    let lines = bytes.split(|byte| *byte == b'\n').count();
    for one in &found {
        prop_assert!(one.line >= 1 && one.line <= lines && one.column >= 1, "{:?}", one);
        prop_assert!(one.rendered.contains(one.code));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_are_a_config_or_errors_with_a_place(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        check(&bytes)?;
    }

    #[test]
    fn any_text_is_a_config_or_errors_with_a_place(text in "\\PC{0,200}") {
        check(text.as_bytes())?;
    }

    #[test]
    fn pieces_of_configs_in_any_order_do_not_panic(
        pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..80),
    ) {
        check(pieces.concat().as_bytes())?;
    }

    #[test]
    fn a_config_with_one_part_replaced_does_not_panic(
        at in 0..SMALL.len(), length in 0_usize..40, piece in proptest::sample::select(PIECES),
    ) {
        let mut bytes = SMALL.as_bytes().to_vec();
        let end = (at + length).min(bytes.len());
        bytes.splice(at..end, piece.bytes());
        check(&bytes)?;
    }
}

#[test]
fn a_file_with_thousands_of_errors_is_answered_quickly_and_says_errors() {
    let text = "x = 1\n".repeat(20_000);
    let start = std::time::Instant::now();
    let found = parse(Path::new("x.toml"), &text).expect_err("duplicate keys");
    assert!(found.len() <= 200, "{}", found.len());
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}
