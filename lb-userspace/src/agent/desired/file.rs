//! Reads the config file, and nothing that only has a name: a FIFO, a device or a directory would be read without an end.

use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, Error, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

/// The largest config. As many backends as `[limits] backends` takes, 1,048,576, have 64 bytes each in it, which is a
/// `[[service.backend]]` with address and port.
const MAX_BYTES: u64 = 64 << 20;

/// The bytes of a regular file.
///
/// # Errors
/// What the system says; that it is no regular file; that it is too large.
pub(in crate::agent) fn read_config(path: &Path) -> io::Result<Vec<u8>> {
    // Without O_NONBLOCK the open of a FIFO waits for its writer.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        let what = kind(metadata.file_type());
        let wanted = format!("it is {what}, and a config is a regular file");
        return Err(Error::new(ErrorKind::InvalidInput, wanted));
    }
    read_all(file)
}

/// As [`read_config`], and a FIFO, too: a shell's `<(command)` is one, and whoever waits for its writer can give up.
///
/// # Errors
/// Those of [`read_config`].
pub fn read_config_or_fifo(path: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.file_type().is_fifo() {
        return read_all(File::open(path)?);
    }
    read_config(path)
}

/// All that comes, as far as a config may go.
///
/// # Errors
/// What the system says, and that it is too much.
pub fn read_all(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        let why = format!(
            "it has more than {} MiB, the most that a config may have",
            MAX_BYTES >> 20
        );
        return Err(Error::new(ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
}

fn kind(of: FileType) -> &'static str {
    if of.is_dir() {
        "a directory"
    } else if of.is_fifo() {
        "a FIFO"
    } else if of.is_char_device() || of.is_block_device() {
        "a device"
    } else {
        "something else"
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    fn refused(path: &Path) -> String {
        read_config(path).expect_err("no config").to_string()
    }

    #[test]
    fn only_a_regular_file_is_read_and_what_else_it_is_is_said() {
        let room = tempfile::tempdir().expect("directory");
        let fifo = room.path().join("fifo");
        mkfifo(&fifo, Mode::S_IRWXU).expect("FIFO");
        let said = |what| format!("it is {what}, and a config is a regular file");
        assert_eq!(refused(&fifo), said("a FIFO"));
        assert_eq!(refused(room.path()), said("a directory"));
        assert_eq!(refused(Path::new("/dev/zero")), said("a device"));
        let file = room.path().join("xlb.toml");
        fs::write(&file, "a = 1\n").expect("write");
        let link = room.path().join("link");
        std::os::unix::fs::symlink(&file, &link).expect("link");
        assert_eq!(read_config(&link).expect("read"), b"a = 1\n");
    }

    #[test]
    fn a_fifo_is_read_where_somebody_waits_for_it() {
        let room = tempfile::tempdir().expect("directory");
        let fifo = room.path().join("fifo");
        mkfifo(&fifo, Mode::S_IRWXU).expect("FIFO");
        let read = thread::spawn({
            let fifo = fifo.clone();
            move || read_config_or_fifo(&fifo)
        });
        fs::write(&fifo, "a = 1\n").expect("written");
        assert_eq!(read.join().expect("no panic").expect("read"), b"a = 1\n");
        read_config_or_fifo(room.path()).unwrap_err();
    }

    #[test]
    fn a_file_is_read_up_to_the_largest_config_and_no_further() {
        let room = tempfile::tempdir().expect("directory");
        let path = room.path().join("xlb.toml");
        // It has holes: nothing is written to the disk.
        let file = File::create(&path).expect("create");
        file.set_len(MAX_BYTES).expect("size");
        assert_eq!(read_config(&path).expect("read").len() as u64, MAX_BYTES);
        file.set_len(MAX_BYTES + 1).expect("size");
        assert_eq!(
            refused(&path),
            "it has more than 64 MiB, the most that a config may have"
        );
        read_all(io::repeat(b'#')).unwrap_err();
    }
}
