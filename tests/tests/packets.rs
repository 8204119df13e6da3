//! The packet builders and both checksum oracles, on packets that no program touched.

use std::net::SocketAddr;

use xlb_tests::packets::breakage::{Breakage, broken};
use xlb_tests::packets::oracle::{self, Fault};
use xlb_tests::packets::{Extension, Fragment, More, Packet, Transport, flags, scapy};

fn ends() -> [(SocketAddr, SocketAddr); 2] {
    let end = |text: &str| text.parse().expect("a literal address");
    [
        (end("198.51.100.7:40000"), end("203.0.113.10:80")),
        (end("[2001:db8:1::7]:40000"), end("[2001:db8::10]:80")),
    ]
}

fn samples() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for (src, dst) in ends() {
        for len in [0, 1, 2, 7, 64, 333, 1400] {
            let payload: Vec<u8> = (0..len).map(|i: u32| (i * 7 + 3) as u8).collect();
            frames.push(Packet::tcp(src, dst, flags::SYN, 1, 0).payload(&payload).build());
            frames.push(Packet::udp(src, dst).payload(&payload).build());
            frames.push(Packet::echo(src.ip(), dst.ip()).payload(&payload).build());
            let mut with_options = Packet::tcp(src, dst, flags::ACK, 5, 6).payload(&payload);
            if let Transport::Tcp { options, .. } = &mut with_options.transport {
                options.extend_from_slice(&[2, 4, 5, 0xb4, 1, 1, 4, 2]);
            }
            with_options.padding_bytes = 3;
            frames.push(with_options.build());
        }
    }
    frames.push(Packet::udp(ends()[0].0, ends()[0].1).options(&[148, 4, 0, 0]).build());
    let (src, dst) = ends()[1];
    let chained = Packet::udp(src, dst)
        .extension(Extension::HopByHop(0))
        .extension(Extension::Destination(2));
    frames.push(chained.build());
    frames
}

#[test]
fn etherparse_finds_every_built_checksum_right() {
    for frame in samples() {
        assert_eq!(oracle::check(&frame), Ok(()), "{}", xlb_tests::packets::hex(&frame));
    }
}

#[test]
fn scapy_finds_every_built_checksum_right() {
    match scapy::check(&samples()).expect("scapy agrees") {
        scapy::Judgement::Agreed(count) => assert!(count >= samples().len()),
        scapy::Judgement::Missing(why) => xlb_tests::skip::skip("scapy_finds_every_built_checksum_right", &why),
    }
}

#[test]
fn both_oracles_see_a_wrong_checksum() {
    for (src, dst) in ends() {
        let frame = broken(Packet::udp(src, dst).payload(b"abc").build(), Breakage::L4Checksum(1));
        assert!(matches!(
            oracle::check(&frame),
            Err(Fault::Checksum { layer: "udp", .. })
        ));
        assert!(!matches!(scapy::check(&[frame]), Ok(scapy::Judgement::Agreed(_))));
    }
}

#[test]
fn a_fragment_stands_where_its_family_puts_it() {
    let fragment = Fragment {
        offset: 3,
        more: More::Follow,
    };
    let [(src4, dst4), (src6, dst6)] = ends();
    let four = Packet::udp(src4, dst4).fragment(fragment).build();
    assert_eq!(four.get(20..22), Some([0x20, 0x03].as_slice()));
    let six = Packet::udp(src6, dst6).fragment(fragment).build();
    assert_eq!(
        (six.get(20), six.get(54), six.get(56..58)),
        (Some(&44), Some(&17), Some([0, 0x19].as_slice()))
    );
}
