//! Serde view types shared by CLI and API.
