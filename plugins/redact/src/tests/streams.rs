//! Secrets in pieces.
