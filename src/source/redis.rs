//! The stream in Redis.

use super::{Backlog, Fields, OwnRequest, Owned, SourceError, Stream};
use crate::event::StreamId;

/// What to read, and where.
pub struct RedisConfig {
    /// `REDIS_URL`.
    pub url: String,
    /// `REDIS_STREAM`.
    pub stream: String,
    /// `REDIS_CONSUMER_GROUP`.
    pub group: String,
    /// `MAX_EVENT`.
    pub event_max: usize,
}

/// A stream in Redis.
pub struct RedisStream {
    never: std::convert::Infallible,
}

impl RedisStream {
    /// Checks the settings.
    pub fn new(_config: RedisConfig) -> Result<Self, SourceError> {
        Err(SourceError::Config("this build has no Redis".into()))
    }
}

impl Stream for RedisStream {
    fn state_name(&self) -> String {
        match self.never {}
    }
    fn try_own(&self, _: &OwnRequest) -> Result<Option<Owned>, SourceError> {
        match self.never {}
    }
    fn append(&self, _: Vec<Fields>) -> Result<Vec<StreamId>, SourceError> {
        match self.never {}
    }
    fn backlog(&self) -> Result<Backlog, SourceError> {
        match self.never {}
    }
    fn describe(&self) -> String {
        match self.never {}
    }
}
