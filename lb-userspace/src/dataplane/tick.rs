//! The kernel's tick (jiffies, cut to 32 bits) of this moment: what `created` and `last_seen` of flow entries count in. No
//! system call tells it, so two instructions are loaded once and run on request; they are never attached.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, SystemTime};

use bytemuck::{Pod, Zeroable};

use super::sys::{Command, bpf, owned, raw};

/// `BPF_PROG_TYPE_SOCKET_FILTER`: may call `bpf_jiffies64` and returns any 32 bits.
const SOCKET_FILTER: u32 = 1;
/// `r0 = bpf_jiffies64(); exit`, as `struct bpf_insn`s.
const INSTRUCTIONS: [[u8; 8]; 2] = [call(118), [0x95, 0, 0, 0, 0, 0, 0, 0]];
/// The shortest frame a test run takes.
const FRAME: [u8; 14] = [0; 14];

const fn call(helper: i32) -> [u8; 8] {
    let [a, b, c, d] = helper.to_ne_bytes();
    [0x85, 0, 0, 0, a, b, c, d]
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable, Pod)]
struct LoadAttr {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log: [u32; 2],
    log_buffer: u64,
    version_and_flags: [u32; 2],
    name: [u8; 16],
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable, Pod)]
struct RunAttr {
    program: u32,
    result: u32,
    bytes_in: u32,
    bytes_out: u32,
    data_in: u64,
    data_out: u64,
    repeat_and_duration: [u32; 2],
}

/// The loaded instructions.
#[derive(Debug)]
pub(super) struct TickProgram(OwnedFd);

impl TickProgram {
    pub(super) fn load() -> io::Result<Self> {
        let mut name = [0; 16];
        for (slot, byte) in name.iter_mut().zip(*b"xlb_tick") {
            *slot = byte;
        }
        let mut attr = LoadAttr {
            kind: SOCKET_FILTER,
            instructions: INSTRUCTIONS.len() as u32,
            code: INSTRUCTIONS.as_ptr() as u64,
            license: c"Dual MIT/GPL".as_ptr() as u64,
            name,
            ..Zeroable::zeroed()
        };
        bpf(Command::ProgLoad, &mut attr).map(owned).map(Self)
    }

    fn run(&self) -> io::Result<u32> {
        let mut attr = RunAttr {
            program: raw(self.0.as_fd()),
            bytes_in: FRAME.len() as u32,
            data_in: FRAME.as_ptr() as u64,
            ..Zeroable::zeroed()
        };
        bpf(Command::ProgTestRun, &mut attr)?;
        Ok(attr.result)
    }

    /// A clock that was set just now.
    pub(super) fn clock(&self, hz: u32) -> io::Result<TickClock> {
        Ok(TickClock {
            tick: self.run()?,
            at: SystemTime::now(),
            hz,
        })
    }
}

/// One moment as tick and as wall-clock time.
#[derive(Clone, Copy, Debug)]
pub struct TickClock {
    /// The kernel's tick.
    pub tick: u32,
    /// The same moment.
    pub at: SystemTime,
    /// Ticks a second.
    pub hz: u32,
}

impl TickClock {
    /// How long ago a tick was. Ticks wrap after 2^32 (49 days at 1,000 Hz), and ages with them; a tick of the last
    /// minute to come counts as now (entries written while the clock was being read).
    pub fn age(&self, tick: u32) -> Duration {
        let ticks = self.tick.wrapping_sub(tick);
        if ticks > u32::MAX - 60 * self.hz.max(1) {
            return Duration::ZERO;
        }
        Duration::from_millis(u64::from(ticks) * 1_000 / u64::from(self.hz.max(1)))
    }

    /// The wall-clock time of a tick.
    pub fn time(&self, tick: u32) -> SystemTime {
        self.at.checked_sub(self.age(tick)).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_that_wrapped_and_ticks_a_moment_ahead_have_sane_ages() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let clock = TickClock { tick: 500, at, hz: 250 };
        assert_eq!(clock.age(250), Duration::from_secs(1));
        assert_eq!(clock.age(u32::MAX - 499), Duration::from_secs(4));
        assert_eq!(clock.age(501), Duration::ZERO);
        assert_eq!(clock.time(0), at - Duration::from_secs(2));
    }
}
