//! Next hops, links and addresses from netlink.
