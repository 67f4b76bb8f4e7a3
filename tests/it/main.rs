//! The one integration test binary.

mod position_protocol;
mod redis_server;
mod source;
