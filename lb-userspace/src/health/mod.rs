//! Probes of the backends' internal ports.
