//! What the program may read and write: its stack, the frame, values it looked up. Addresses are this process's own;
//! each access is checked before it is made.

use std::ptr::with_exposed_provenance_mut;
use std::slice::{from_raw_parts, from_raw_parts_mut};

use anyhow::{Result, bail};

use super::tables::Tables;

/// Where the context stands: no memory, but fields that the kernel computes.
pub(super) const CONTEXT: u64 = 1 << 60;
const STACK_BYTES: usize = 512;
const HEADROOM_BYTES: usize = 256;
const TAILROOM_BYTES: usize = 256;

/// The program's memory besides the maps.
pub(super) struct Memory {
    /// Boxed: the program holds addresses.
    stacks: Vec<Box<[u64]>>,
    packet: Box<[u64]>,
    frame_bytes: usize,
    ifindex: u32,
}

impl Memory {
    pub(super) fn new(ifindex: u32, frame: &[u8]) -> Self {
        let bytes = HEADROOM_BYTES + frame.len() + TAILROOM_BYTES;
        let mut packet = vec![0_u64; bytes.div_ceil(8)].into_boxed_slice();
        let place: &mut [u8] = bytemuck::cast_slice_mut(&mut packet);
        if let Some(place) = place.get_mut(HEADROOM_BYTES..HEADROOM_BYTES + frame.len()) {
            place.copy_from_slice(frame);
        }
        Self {
            stacks: Vec::new(),
            packet,
            frame_bytes: frame.len(),
            ifindex,
        }
    }

    /// A frame for a function; returns the address of its end.
    pub(super) fn push_stack(&mut self) -> u64 {
        let stack = vec![0_u64; STACK_BYTES / 8].into_boxed_slice();
        let end = stack.as_ptr().expose_provenance() as u64 + STACK_BYTES as u64;
        self.stacks.push(stack);
        end
    }

    pub(super) fn pop_stack(&mut self) {
        self.stacks.pop();
    }

    /// The frame as it is now.
    pub(super) fn frame(&self) -> Vec<u8> {
        let bytes: &[u8] = bytemuck::cast_slice(&self.packet);
        bytes
            .iter()
            .skip(HEADROOM_BYTES)
            .take(self.frame_bytes)
            .copied()
            .collect()
    }

    /// Bytes of the frame.
    pub(super) fn frame_bytes(&self) -> u64 {
        self.frame_bytes as u64
    }

    /// `bpf_xdp_adjust_tail`.
    pub(super) fn adjust_tail(&mut self, by: i32) -> u64 {
        let wanted = self.frame_bytes as i64 + i64::from(by);
        if wanted < 14 || wanted as usize > self.packet.len() * 8 - HEADROOM_BYTES {
            return i64::from(-libc::EINVAL) as u64;
        }
        self.frame_bytes = wanted as usize;
        0
    }

    /// A field of the context.
    pub(super) fn context(&self, at: u64) -> Result<u64> {
        let start = self.packet.as_ptr().expose_provenance() as u64 + HEADROOM_BYTES as u64;
        match at {
            0 | 8 => Ok(start),
            4 => Ok(start + self.frame_bytes as u64),
            12 => Ok(self.ifindex.into()),
            16 => Ok(0),
            other => bail!("the program reads byte {other} of its context, which the interpreter does not know"),
        }
    }

    fn check(&self, tables: &Tables<'_>, address: u64, bytes: u64) -> Result<()> {
        let within =
            |start: usize, length: usize| address >= start as u64 && address + bytes <= start as u64 + length as u64;
        let on_stack = self
            .stacks
            .iter()
            .any(|stack| within(stack.as_ptr().addr(), STACK_BYTES));
        let in_frame = within(self.packet.as_ptr().addr() + HEADROOM_BYTES, self.frame_bytes);
        if on_stack || in_frame || tables.holds(address, bytes) {
            return Ok(());
        }
        bail!("{bytes} bytes at {address:#x} are neither stack nor frame nor a looked-up value")
    }

    pub(super) fn read(&self, tables: &Tables<'_>, address: u64, bytes: u64) -> Result<u64> {
        let mut value = [0_u8; 8];
        value[..bytes as usize].copy_from_slice(&self.bytes(tables, address, bytes)?);
        Ok(u64::from_le_bytes(value))
    }

    pub(super) fn bytes(&self, tables: &Tables<'_>, address: u64, bytes: u64) -> Result<Vec<u8>> {
        self.check(tables, address, bytes)?;
        let from = with_exposed_provenance_mut::<u8>(address as usize);
        // SAFETY: `check` has found the range inside memory that this run owns; nothing else refers to it now.
        Ok(unsafe { from_raw_parts(from, bytes as usize) }.to_vec())
    }

    pub(super) fn write(&mut self, tables: &Tables<'_>, address: u64, bytes: u64, value: u64) -> Result<()> {
        self.check(tables, address, bytes)?;
        let to = with_exposed_provenance_mut::<u8>(address as usize);
        // SAFETY: as in `bytes`.
        let to = unsafe { from_raw_parts_mut(to, bytes as usize) };
        to.copy_from_slice(&value.to_le_bytes()[..bytes as usize]);
        Ok(())
    }
}
