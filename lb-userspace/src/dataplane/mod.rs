//! The only place that names aya: load, attach, pins, ABI check, maps.
