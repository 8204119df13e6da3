//! The test harness: what the kernel and namespace tests under `tests/tests/` share.
