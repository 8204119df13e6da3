//! Names in `xlb_names`: `web` for a service, `web/a` for a backend. Ids are recovered from them after a restart, so
//! two names that differ must differ here, too: what does not fit is cut and closed by a hash of the whole.

use lb_common::abi::Name;
use lb_common::limits::NAME_BYTES;

use super::maglev::mix;

/// Bytes of text in a [`Name`]; the last one is the closing zero.
const TEXT_BYTES: usize = NAME_BYTES - 1;

/// The text that stands for a service.
pub fn of_service(service: &str) -> String {
    fitting(service.to_owned())
}

/// The text that stands for a membership.
pub fn of_backend(service: &str, backend: &str) -> String {
    fitting(format!("{service}/{backend}"))
}

/// The map's value for a text; what does not fit is cut.
pub fn to_name(text: &str) -> Name {
    let mut name = [0_i8; NAME_BYTES];
    for (slot, byte) in name.iter_mut().take(TEXT_BYTES).zip(text.bytes()) {
        *slot = byte.cast_signed();
    }
    Name { name }
}

/// The text of a map's value.
pub fn to_text(name: &Name) -> String {
    let bytes: Vec<u8> = name
        .name
        .iter()
        .map(|byte| byte.cast_unsigned())
        .take_while(|byte| *byte != 0)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn fitting(full: String) -> String {
    if full.len() <= TEXT_BYTES {
        return full;
    }
    let hash = full
        .bytes()
        .fold(full.len() as u64, |hash, byte| mix(hash ^ u64::from(byte)));
    let tail = format!("~{hash:016x}");
    let mut cut = TEXT_BYTES - tail.len();
    while !full.is_char_boundary(cut) {
        cut -= 1;
    }
    format!("{}{tail}", full.get(..cut).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_fits_stands_as_it_is() {
        let text = of_backend("web", "[2001:db8::1]:8080");
        assert_eq!(text, "web/[2001:db8::1]:8080");
        assert_eq!(to_text(&to_name(&text)), text);
    }

    #[test]
    fn long_names_are_cut_and_stay_different() {
        let (a, b) = (
            of_backend(&"s".repeat(63), &"a".repeat(63)),
            of_backend(&"s".repeat(63), &"b".repeat(63)),
        );
        assert_eq!((a.len(), b.len()), (63, 63));
        assert_ne!(a, b);
        assert_eq!(to_text(&to_name(&a)), a);
    }
}
