//! Next hops, links, VIPs and probes against the real kernel: real neighbours, firewalls, listeners and absences in
//! namespaces of their own. One program, so that its parts share their helpers.

mod hops;
mod many;
mod neighbours;
mod netlab;
mod schedule;
mod servers;
mod tls;
mod verdicts;
mod vips;
mod watcher;
