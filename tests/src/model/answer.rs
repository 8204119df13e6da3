//! Section 6 of the page: echo replies and resets.

use std::net::IpAddr;

use lb_common::abi::{Iface, iface_flag};
use lb_common::net::IPPROTO_TCP;
use lb_common::reason::{AnswerReason, DropReason};

use super::flows::Way;
use super::frame::{Zero, carry_sum, header_bytes, l4_sum, ones_sum, put_addresses};
use super::headers::{IP, Ip, Shape};
use super::parse::View;
use super::{Arrival, Expected, ExpectedFrame, Forbidden, HZ, Model, Observed, Reason};
use crate::packets::flags;

/// A rate at which the bucket never runs dry in a test.
const UNLIMITED: u32 = 100_000;

impl Model {
    pub(super) fn echo(&mut self, arrival: Arrival<'_>, ip: &Ip) -> Expected {
        let frame = arrival.frame;
        let mut out = frame.to_vec();
        swap_macs(&mut out);
        put_addresses(&mut out, ip.dst, ip.src);
        let mut sums = Vec::new();
        let reason = if ip.src.is_ipv4() {
            out[ip.l4] = 0;
            out[IP + 8] = 64;
            sums.push(carry_sum(frame, &mut out, IP + 10, Zero::IsANumber, |f| {
                ones_sum(&f[IP..IP + header_bytes(f)])
            }));
            let at = ip.l4 + 2;
            sums.push(carry_sum(frame, &mut out, at, Zero::IsANumber, |f| {
                ones_sum(&f[ip.l4..ip.end])
            }));
            AnswerReason::Echo
        } else {
            out[ip.l4] = 129;
            out[IP + 7] = 64;
            sums.push(carry_sum(frame, &mut out, ip.l4 + 2, Zero::IsANumber, |f| {
                l4_sum(f, ip)
            }));
            AnswerReason::Echo6
        };
        self.answer(arrival, reason, ExpectedFrame::with_sums(out, sums))
    }

    pub(super) fn reset(
        &mut self,
        arrival: Arrival<'_>,
        view: &View,
        observed: &dyn Observed,
    ) -> Result<Expected, Forbidden> {
        if view.ip.shape == Shape::Long {
            return Ok(Expected::drop(DropReason::TcpNoFlow));
        }
        let rate = self.world.settings.rst_per_second;
        let may_send = rate > 0;
        let must_send = rate >= UNLIMITED;
        let limited = Reason::Drop(DropReason::RstLimited);
        let before = self.reasons.get(&limited.index()).copied().unwrap_or_default().0;
        if observed.counted(limited) != before && !must_send {
            return Ok(Expected::drop(DropReason::RstLimited));
        }
        self.resets_sent += 1;
        let seconds = (self.now - (1 << 32)) / u64::from(HZ) + 2;
        if !may_send || self.resets_sent > seconds * u64::from(rate) {
            return Err(Forbidden(format!(
                "{} resets in {seconds} s at {rate} a second",
                self.resets_sent
            )));
        }
        let frame = reset_frame(arrival.frame, view);
        Ok(self.answer(arrival, AnswerReason::TcpReset, frame))
    }

    fn answer(&mut self, arrival: Arrival<'_>, reason: AnswerReason, frame: ExpectedFrame) -> Expected {
        let Iface { flags, .. } = self.world.ifaces[&arrival.ifindex];
        let way = if flags & iface_flag::TX != 0 {
            Way::TxWhereItCame
        } else {
            Way::Redirect
        };
        let reason = Reason::Answer(reason);
        match self.way_out(arrival.ifindex, arrival.ifindex, way) {
            Ok(action) => Expected {
                action,
                reason: Some(reason),
                frame: Some(frame),
            },
            Err(no_way) => {
                // It was made; that it could not leave is counted besides.
                self.count(reason, frame.len());
                Expected {
                    frame: Some(frame),
                    ..Expected::drop(no_way)
                }
            }
        }
    }
}

/// RFC 9293, 3.10.7.1.
fn reset_frame(frame: &[u8], view: &View) -> ExpectedFrame {
    let mut out = frame[..view.ip.l4 + 20].to_vec();
    swap_macs(&mut out);
    let (src, dst) = (view.key.dst, view.key.src);
    let mut ip = view.ip;
    (ip.src, ip.dst, ip.end) = (src, dst, ip.l4 + 20);
    match src {
        IpAddr::V4(_) => {
            // Version and length stay; type of service 0, id 0, DF, TTL 64.
            out[IP..IP + 12].copy_from_slice(&[0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, IPPROTO_TCP, 0, 0]);
        }
        IpAddr::V6(_) => out[IP..IP + 8].copy_from_slice(&[0x60, 0, 0, 0, 0, 20, IPPROTO_TCP, 64]),
    }
    put_addresses(&mut out, src, dst);
    let tcp = &mut out[ip.l4..];
    tcp[0..2].copy_from_slice(&view.key.dst_port.to_be_bytes());
    tcp[2..4].copy_from_slice(&view.key.src_port.to_be_bytes());
    let (seq, ack, bits) = if view.has(flags::ACK) {
        (view.ack, 0, flags::RST)
    } else {
        let controls = u32::from(view.has(flags::SYN)) + u32::from(view.has(flags::FIN));
        (
            0,
            view.seq.wrapping_add(view.payload_bytes).wrapping_add(controls),
            flags::RST | flags::ACK,
        )
    };
    tcp[4..8].copy_from_slice(&seq.to_be_bytes());
    tcp[8..12].copy_from_slice(&ack.to_be_bytes());
    tcp[12..20].copy_from_slice(&[0x50, bits, 0, 0, 0, 0, 0, 0]);
    let sum = !l4_sum(&out, &ip);
    out[ip.l4 + 16..ip.l4 + 18].copy_from_slice(&sum.to_be_bytes());
    if src.is_ipv4() {
        let sum = !ones_sum(&out[IP..IP + 20]);
        out[IP + 10..IP + 12].copy_from_slice(&sum.to_be_bytes());
    }
    ExpectedFrame::exactly(out)
}

fn swap_macs(frame: &mut [u8]) {
    let (dst, rest) = frame.split_at_mut(6);
    dst.swap_with_slice(&mut rest[..6]);
}
