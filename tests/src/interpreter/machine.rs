//! The instruction set (RFC 9669, of which the compiler uses v3) and the helpers that the program calls.

use anyhow::{Context as _, Result, bail};
use aya_obj::generated::bpf_insn;

use super::Trace;
use super::memory::{CONTEXT, Memory};
use super::tables::Tables;
use crate::kernel::action;

/// More than any packet needs: a program that was misread ends, too.
const MOST_INSTRUCTIONS: u64 = 1_000_000;
/// Address of the first instruction, where a callback is named.
const CODE: u64 = 1 << 61;

/// One run.
pub(super) struct Machine<'a> {
    code: &'a [bpf_insn],
    tables: Tables<'a>,
    memory: Memory,
    now: u64,
    trace: Trace,
}

type Registers = [u64; 11];

impl<'a> Machine<'a> {
    pub(super) fn new(code: &'a [bpf_insn], tables: Tables<'a>, ifindex: u32, frame: &[u8], now: u64) -> Self {
        Self {
            code,
            tables,
            memory: Memory::new(ifindex, frame),
            now,
            trace: Trace::default(),
        }
    }

    pub(super) fn run(mut self) -> Result<Trace> {
        let action = self.function(0, [CONTEXT, 0, 0, 0, 0])?;
        self.trace.action = action as u32;
        self.trace.frame = self.memory.frame();
        Ok(self.trace)
    }

    /// Runs from `start` to the exit of that function.
    fn function(&mut self, start: usize, arguments: [u64; 5]) -> Result<u64> {
        let mut r: Registers = [0; 11];
        r[1..6].copy_from_slice(&arguments);
        r[10] = self.memory.push_stack();
        let mut at = start;
        loop {
            let insn = *self
                .code
                .get(at)
                .with_context(|| format!("ran past the code to {at}"))?;
            self.trace.instructions += 1;
            if self.trace.instructions > MOST_INSTRUCTIONS {
                bail!("more than {MOST_INSTRUCTIONS} instructions");
            }
            let next = self
                .step(&mut r, at, insn)
                .with_context(|| format!("instruction {at}, opcode {:#04x}", insn.code))?;
            match next {
                Some(next) => at = next,
                None => {
                    self.memory.pop_stack();
                    return Ok(r[0]);
                }
            }
        }
    }

    /// The index of the next instruction; `None` at the function's exit.
    fn step(&mut self, r: &mut Registers, at: usize, insn: bpf_insn) -> Result<Option<usize>> {
        let (dst, src) = (usize::from(insn.dst_reg()), usize::from(insn.src_reg()));
        let immediate = i64::from(insn.imm) as u64;
        let next = at + 1;
        match insn.code & 7 {
            0 => {
                let high = self.code.get(next).context("half of a wide load")?;
                let wide = u64::from(insn.imm as u32) | u64::from(high.imm as u32) << 32;
                r[dst] = match insn.src_reg() {
                    // A number, or a map by its descriptor, which the helpers take.
                    0 => wide,
                    1 => u64::from(insn.imm as u32),
                    2 => self.tables.lookup(insn.imm, &[0; 4])? + u64::from(high.imm as u32),
                    4 => CODE + (at as i64 + 1 + i64::from(insn.imm)) as u64,
                    other => bail!("a wide load of kind {other}"),
                };
                return Ok(Some(at + 2));
            }
            1 => {
                let address = r[src].wrapping_add(i64::from(insn.off) as u64);
                r[dst] = if (CONTEXT..CONTEXT + 64).contains(&address) {
                    self.memory.context(address - CONTEXT)?
                } else {
                    self.memory.read(&self.tables, address, bytes_of(insn.code))?
                };
            }
            2 | 3 => {
                let address = r[dst].wrapping_add(i64::from(insn.off) as u64);
                if insn.code & 0xe0 == 0xc0 {
                    self.atomic(r, address, insn)?;
                } else {
                    let value = if insn.code & 7 == 2 { immediate } else { r[src] };
                    self.memory.write(&self.tables, address, bytes_of(insn.code), value)?;
                }
            }
            4 | 7 => {
                let operand = if insn.code & 8 == 0 { immediate } else { r[src] };
                r[dst] = arithmetic(insn.code, r[dst], operand, insn.imm)?;
            }
            _ => return self.jump(r, at, insn),
        }
        Ok(Some(next))
    }

    fn jump(&mut self, r: &mut Registers, at: usize, insn: bpf_insn) -> Result<Option<usize>> {
        let target = |off: i64| (at as i64 + 1 + off) as usize;
        match insn.code {
            0x95 => return Ok(None),
            0x05 => return Ok(Some(target(insn.off.into()))),
            0x85 if insn.src_reg() == 1 => {
                r[0] = self.function(target(insn.imm.into()), [r[1], r[2], r[3], r[4], r[5]])?;
                return Ok(Some(at + 1));
            }
            0x85 => {
                r[0] = self.helper(insn.imm, [r[1], r[2], r[3], r[4], r[5]])?;
                return Ok(Some(at + 1));
            }
            _ => {}
        }
        let (a, b) = (
            r[usize::from(insn.dst_reg())],
            if insn.code & 8 == 0 {
                i64::from(insn.imm) as u64
            } else {
                r[usize::from(insn.src_reg())]
            },
        );
        let (a, b, a_signed, b_signed) = if insn.code & 7 == 6 {
            (
                a & 0xffff_ffff,
                b & 0xffff_ffff,
                i64::from(a as i32),
                i64::from(b as i32),
            )
        } else {
            (a, b, a as i64, b as i64)
        };
        let is_taken = match insn.code & 0xf0 {
            0x10 => a == b,
            0x20 => a > b,
            0x30 => a >= b,
            0x40 => a & b != 0,
            0x50 => a != b,
            0x60 => a_signed > b_signed,
            0x70 => a_signed >= b_signed,
            0xa0 => a < b,
            0xb0 => a <= b,
            0xc0 => a_signed < b_signed,
            0xd0 => a_signed <= b_signed,
            other => bail!("a jump of kind {other:#x}"),
        };
        Ok(Some(if is_taken { target(insn.off.into()) } else { at + 1 }))
    }

    fn atomic(&mut self, r: &mut Registers, address: u64, insn: bpf_insn) -> Result<()> {
        let bytes = bytes_of(insn.code);
        let src = usize::from(insn.src_reg());
        let old = self.memory.read(&self.tables, address, bytes)?;
        let mask = if bytes == 8 { u64::MAX } else { 0xffff_ffff };
        let new = match insn.imm & 0xf0 {
            0xf0 => {
                let wanted = r[0] & mask;
                r[0] = old;
                if old != wanted {
                    return Ok(());
                }
                r[src]
            }
            0xe0 => r[src],
            0x00 => old.wrapping_add(r[src]),
            0x40 => old | r[src],
            0x50 => old & r[src],
            0xa0 => old ^ r[src],
            other => bail!("an atomic operation of kind {other:#x}"),
        };
        if insn.imm & 1 != 0 && insn.imm & 0xf0 != 0xf0 {
            r[src] = old;
        }
        self.memory.write(&self.tables, address, bytes, new & mask)
    }

    fn helper(&mut self, number: i32, arguments: [u64; 5]) -> Result<u64> {
        let [first, second, third, fourth, _] = arguments;
        let name = match number {
            1 => {
                let table = self.tables.get(first as i32)?;
                let key = self.memory.bytes(&self.tables, second, table.key_bytes as u64)?;
                *self.trace.lookups.entry(table.name.clone()).or_default() += 1;
                return self.tables.lookup(first as i32, &key);
            }
            2 | 3 => {
                let table = self.tables.get(first as i32)?;
                let key = self.memory.bytes(&self.tables, second, table.key_bytes as u64)?;
                *self.trace.writes.entry(table.name.clone()).or_default() += 1;
                if number == 3 {
                    return self.tables.delete(first as i32, &key);
                }
                let value = self.memory.bytes(&self.tables, third, table.value_bytes as u64)?;
                return self.tables.update(first as i32, &key, &value, fourth);
            }
            // bpf_map_push_elem: an update without a key.
            87 => {
                let table = self.tables.get(first as i32)?;
                let value = self.memory.bytes(&self.tables, second, table.value_bytes as u64)?;
                *self.trace.writes.entry(table.name.clone()).or_default() += 1;
                return self.tables.update(first as i32, &[], &value, third);
            }
            8 => ("get_smp_processor_id", 0),
            51 => {
                let table = self.tables.get(first as i32)?;
                *self.trace.lookups.entry(table.name.clone()).or_default() += 1;
                let key = (second as u32).to_le_bytes();
                let is_there = self.tables.lookup(first as i32, &key)? != 0;
                let flags = third & 3;
                ("redirect_map", if is_there { action::REDIRECT.into() } else { flags })
            }
            65 => ("xdp_adjust_tail", self.memory.adjust_tail(second as i32)),
            118 => ("jiffies64", self.now),
            181 => {
                let mut turns = 0;
                while turns < first {
                    turns += 1;
                    let start = second.checked_sub(CODE).context("bpf_loop without a callback")?;
                    if self.function(start as usize, [turns - 1, third, 0, 0, 0])? != 0 {
                        break;
                    }
                }
                ("loop", turns)
            }
            188 => ("xdp_get_buff_len", self.memory.frame_bytes()),
            other => bail!("helper {other}, which the interpreter does not know"),
        };
        *self.trace.helpers.entry(name.0).or_default() += 1;
        Ok(name.1)
    }
}

const fn bytes_of(code: u8) -> u64 {
    match code & 0x18 {
        0x00 => 4,
        0x08 => 2,
        0x10 => 1,
        _ => 8,
    }
}

fn arithmetic(code: u8, a: u64, b: u64, immediate: i32) -> Result<u64> {
    let is_wide = code & 7 == 7;
    if code & 0xf0 == 0xd0 {
        return byte_order(code, a, immediate);
    }
    let (a, b, bits) = if is_wide {
        (a, b, 64)
    } else {
        (a & 0xffff_ffff, b & 0xffff_ffff, 32)
    };
    let shift = (b % bits) as u32;
    let result = match code & 0xf0 {
        0x00 => a.wrapping_add(b),
        0x10 => a.wrapping_sub(b),
        0x20 => a.wrapping_mul(b),
        0x30 => a.checked_div(b).unwrap_or(0),
        0x40 => a | b,
        0x50 => a & b,
        0x60 => a << shift,
        0x70 => a >> shift,
        0x80 => a.wrapping_neg(),
        0x90 => a.checked_rem(b).unwrap_or(a),
        0xa0 => a ^ b,
        0xb0 => b,
        0xc0 if is_wide => ((a as i64) >> shift) as u64,
        0xc0 => ((a as i32) >> shift) as u32 as u64,
        other => bail!("arithmetic of kind {other:#x}"),
    };
    Ok(if is_wide { result } else { result & 0xffff_ffff })
}

/// To little (0xd4) or big (0xdc) endian of so many bits; swapped in any case (0xd7).
fn byte_order(code: u8, value: u64, bits: i32) -> Result<u64> {
    let is_swapped = match code {
        0xd4 => false,
        0xdc | 0xd7 => true,
        other => bail!("a byte order of kind {other:#x}"),
    };
    Ok(match (bits, is_swapped) {
        (16, false) => value & 0xffff,
        (32, false) => value & 0xffff_ffff,
        (64, false) => value,
        (16, true) => (value as u16).swap_bytes().into(),
        (32, true) => (value as u32).swap_bytes().into(),
        (64, true) => value.swap_bytes(),
        (other, _) => bail!("a byte order of {other} bits"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_is_the_instruction_sets() {
        let add = |code, a, b| arithmetic(code, a, b, 0).expect("known");
        assert_eq!(add(0x0f, u64::MAX, 1), 0);
        assert_eq!(add(0x0c, 0xffff_ffff, 1), 0);
        assert_eq!(add(0x3f, 7, 0), 0);
        assert_eq!(add(0x9f, 7, 0), 7);
        assert_eq!(add(0x6f, 1, 65), 2);
        assert_eq!(add(0xc7, i64::MIN as u64, 63), u64::MAX);
        assert_eq!(add(0xc4, 0x8000_0000, 31), 0xffff_ffff);
        assert_eq!(byte_order(0xdc, 0x1234, 16).expect("known"), 0x3412);
        assert_eq!(byte_order(0xd4, 0xabcd_1234, 16).expect("known"), 0x1234);
        assert!(arithmetic(0xe7, 1, 1, 0).is_err());
    }
}
