//! The stream in Redis.

use super::{Backlog, Fields, OwnRequest, Owned, SourceError, Stream};
use crate::{config::Config, event::StreamId};

/// A stream in Redis.
pub struct RedisStream {
    never: std::convert::Infallible,
}

impl RedisStream {
    /// Reads the settings; connects at first use.
    pub fn open(_config: &Config) -> Result<Self, SourceError> {
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
