//! The name of the driver behind an interface: decides (with `links`) between `XDP_TX` and a redirect. Asked through
//! the ethtool ioctl, which works in any network namespace; /sys shows the namespace of whoever mounted it.

use std::os::fd::AsRawFd;

use socket2::{Domain, Socket, Type};

/// `ETHTOOL_GDRVINFO` of linux/ethtool.h.
const GET_DRIVER_INFO: u32 = 3;

/// `struct ethtool_drvinfo` of linux/ethtool.h.
#[repr(C)]
struct DriverInfo {
    cmd: u32,
    driver: [u8; 32],
    version: [u8; 32],
    fw_version: [u8; 32],
    bus_info: [u8; 32],
    erom_version: [u8; 32],
    reserved2: [u8; 12],
    n_priv_flags: u32,
    n_stats: u32,
    testinfo_len: u32,
    eedump_len: u32,
    regdump_len: u32,
}

const _: () = assert!(size_of::<DriverInfo>() == 196);

nix::ioctl_readwrite_bad!(ethtool, libc::SIOCETHTOOL, libc::ifreq);

/// The driver of the interface `name` in the calling thread's network namespace; `None` where it does not tell.
pub(super) fn driver_of(name: &str) -> Option<String> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).ok()?;
    let mut info = DriverInfo {
        cmd: GET_DRIVER_INFO,
        driver: [0; 32],
        version: [0; 32],
        fw_version: [0; 32],
        bus_info: [0; 32],
        erom_version: [0; 32],
        reserved2: [0; 12],
        n_priv_flags: 0,
        n_stats: 0,
        testinfo_len: 0,
        eedump_len: 0,
        regdump_len: 0,
    };
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_data: (&raw mut info).cast(),
        },
    };
    // The last byte stays 0.
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *to = from.cast_signed();
    }
    // SAFETY: the kernel reads and writes `request`, a full `struct ifreq`, and the `struct ethtool_drvinfo` its data
    // pointer names; both live on this stack frame until the call returns.
    unsafe { ethtool(socket.as_raw_fd(), &raw mut request) }.ok()?;
    let end = info.driver.iter().position(|byte| *byte == 0)?;
    let name = std::str::from_utf8(info.driver.get(..end)?).ok()?;
    (!name.is_empty()).then(|| name.to_owned())
}
