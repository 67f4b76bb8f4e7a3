//! The conformance suite, run on both streams.
