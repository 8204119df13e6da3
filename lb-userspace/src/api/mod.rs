//! HTTP and JSON over a Unix socket.
