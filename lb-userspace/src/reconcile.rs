//! The single writer: applies ops in a safe order, publishes a snapshot.
