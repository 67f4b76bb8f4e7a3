//! Where the server is and how to reach it: URLs (TCP, TLS, unix socket, Sentinel) and connections that are dropped after any
//! error. Knows no key and no command but those of Sentinel.

use std::{sync::Arc, time::Duration};

use redis::{Client, Cmd, Connection, ConnectionAddr, ConnectionInfo, ErrorKind, RedisError, Value};

use super::reply;
use crate::source::SourceError;

/// How long connecting with all of its handshake may take.
pub(super) const CONNECT_MAX: Duration = Duration::from_secs(2);

/// The server that a URL names. Asks the sentinels anew at each connection.
pub(super) struct Server {
    place: Place,
}

enum Place {
    Direct(ConnectionInfo),
    Sentinels { nodes: Vec<ConnectionInfo>, master: String, tls: bool, settings: redis::RedisConnectionInfo },
}

/// One connection for short commands, made when it is needed.
pub(super) struct Control {
    server: Arc<Server>,
    timeout: Duration,
    connection: Option<Connection>,
}

// === impl Server ===

impl Server {
    /// `redis://`, `rediss://`, `redis+unix://`, and for Sentinel
    /// `redis-sentinel://[user:password@]host:port,host:port/MASTER[/DB][?sentinel_user=..&sentinel_password=..]`
    /// (`rediss-sentinel://`: TLS to both), where the user before the `@` is the server's.
    pub(super) fn parse(url: &str) -> Result<Self, SourceError> {
        // The text is not repeated in errors: it may hold a password.
        let place = match url.split_once("://") {
            Some(("redis-sentinel", rest)) => sentinels(rest, "redis")?,
            Some(("rediss-sentinel", rest)) => sentinels(rest, "rediss")?,
            _ => Place::Direct(connection_info(url)?),
        };
        Ok(Self { place })
    }

    /// Without secrets.
    pub(super) fn describe(&self) -> String {
        match &self.place {
            Place::Direct(info) => {
                let db = info.redis_settings().db();
                match info.addr() {
                    ConnectionAddr::Unix(path) => format!("redis+unix://{}?db={db}", path.display()),
                    ConnectionAddr::TcpTls { .. } => format!("rediss://{}/{db}", info.addr()),
                    _ => format!("redis://{}/{db}", info.addr()),
                }
            }
            Place::Sentinels { nodes, master, settings, .. } => {
                let nodes: Vec<_> = nodes.iter().map(|node| node.addr().to_string()).collect();
                format!("redis-sentinel://{}/{master}/{}", nodes.join(","), settings.db())
            }
        }
    }

    /// The address to connect to now.
    pub(super) fn locate(&self) -> Result<ConnectionInfo, SourceError> {
        let (nodes, master, tls, settings) = match &self.place {
            Place::Direct(info) => return Ok(info.clone()),
            Place::Sentinels { nodes, master, tls, settings } => (nodes, master, *tls, settings),
        };
        let mut last = SourceError::Redis((ErrorKind::Client, "no sentinel knows the master").into());
        for node in nodes {
            match ask(node, master) {
                Ok(Some((host, port))) => {
                    let scheme = if tls { "rediss" } else { "redis" };
                    let host = if host.contains(':') { format!("[{host}]") } else { host };
                    let info = connection_info(&format!("{scheme}://{host}:{port}"))?;
                    return Ok(info.set_redis_settings(settings.clone()));
                }
                Ok(None) => {}
                Err(error) => last = reply::classify(error),
            }
        }
        Err(last)
    }

    /// A new connection; reading and writing time out after `timeout`.
    pub(super) fn connect(&self, timeout: Duration) -> Result<Connection, SourceError> {
        let connection = open(&self.locate()?, timeout).map_err(reply::classify)?;
        if matches!(self.place, Place::Sentinels { .. }) { self.check_role(connection) } else { Ok(connection) }
    }

    /// A sentinel may name a master that was just demoted: writing to it would be lost.
    fn check_role(&self, mut connection: Connection) -> Result<Connection, SourceError> {
        match redis::cmd("ROLE").query::<Value>(&mut connection).map_err(reply::classify)? {
            Value::Array(role) if role.first().and_then(reply::text) == Some("master") => Ok(connection),
            _ => Err(SourceError::Redis((ErrorKind::Client, "the sentinels' master is a replica").into())),
        }
    }
}

fn open(info: &ConnectionInfo, timeout: Duration) -> Result<Connection, RedisError> {
    let connection = Client::open(info.clone())?.get_connection_with_timeout(CONNECT_MAX)?;
    connection.set_read_timeout(Some(timeout))?;
    connection.set_write_timeout(Some(timeout))?;
    Ok(connection)
}

fn ask(sentinel: &ConnectionInfo, master: &str) -> Result<Option<(String, u16)>, RedisError> {
    let mut connection = open(sentinel, CONNECT_MAX)?;
    redis::cmd("SENTINEL").arg("get-master-addr-by-name").arg(master).query(&mut connection)
}

fn sentinels(rest: &str, scheme: &str) -> Result<Place, SourceError> {
    let rule = || {
        SourceError::Config(
            "REDIS_URL: expected redis-sentinel://[user:password@]host:port,host:port/MASTER[/DB]".to_owned(),
        )
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').ok_or_else(rule)?;
    let (user, hosts) = authority.rsplit_once('@').map_or((None, authority), |(user, hosts)| (Some(user), hosts));
    let (master, db) = path.split_once('/').unwrap_or((path, ""));
    if master.is_empty() || hosts.is_empty() {
        return Err(rule());
    }
    let query = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let sentinel_user = match (query("sentinel_user").unwrap_or(""), query("sentinel_password")) {
        (_, None) => String::new(),
        (user, Some(password)) => format!("{user}:{password}@"),
    };
    let nodes = hosts.split(',').map(|host| {
        let host = if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
            host.to_owned()
        } else {
            format!("{host}:26379")
        };
        connection_info(&format!("{scheme}://{sentinel_user}{host}"))
    });
    let user = user.map(|user| format!("{user}@")).unwrap_or_default();
    // The client's own parser decodes percent signs; only the settings of this URL are used.
    let settings = connection_info(&format!("redis://{user}master/{db}"))?.redis_settings().clone();
    Ok(Place::Sentinels {
        nodes: nodes.collect::<Result<_, _>>()?,
        master: master.to_owned(),
        tls: scheme == "rediss",
        settings,
    })
}

fn connection_info(url: &str) -> Result<ConnectionInfo, SourceError> {
    let parsed = Client::open(url).map_err(|error| {
        let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
        SourceError::Config(format!("REDIS_URL is not usable: {}{detail}", error.category()))
    })?;
    let info = parsed.get_connection_info().clone();
    let tcp = info.tcp_settings().clone().set_nodelay(true).set_user_timeout(Duration::from_secs(20));
    // Replies are parsed as RESP2 throughout.
    let settings = info
        .redis_settings()
        .clone()
        .set_protocol(redis::ProtocolVersion::RESP2)
        .set_lib_name("task-logger", env!("CARGO_PKG_VERSION"));
    Ok(info.set_tcp_settings(tcp).set_redis_settings(settings))
}

// === impl Control ===

impl Control {
    /// Connects at the first use.
    pub(super) fn new(server: Arc<Server>, timeout: Duration) -> Self {
        Self { server, timeout, connection: None }
    }

    /// Whether the next command goes to the connection of the one before.
    pub(super) fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// Forgets the connection and what the server knows of it.
    pub(super) fn disconnect(&mut self) {
        self.connection = None;
    }

    /// Sends commands in one go and returns a reply for each; refusals stand among the replies.
    pub(super) fn all(&mut self, commands: &[Cmd]) -> Result<Vec<Value>, SourceError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.server.connect(self.timeout)?,
        };
        let mut packed = Vec::new();
        commands.iter().for_each(|command| command.write_packed_command(&mut packed));
        let replies = (|| {
            connection.send_packed_command(&packed)?;
            commands.iter().map(|_| connection.recv_response()).collect::<Result<Vec<_>, RedisError>>()
        })();
        let replies = replies.map_err(reply::classify)?;
        // Only a connection on which all went well is used again: a late reply must never answer the next command, and a server
        // that was demoted must be asked for anew.
        let elsewhere = |reply: &Value| {
            reply::refusal(reply)
                .is_some_and(|(code, _)| matches!(code, "READONLY" | "LOADING" | "MASTERDOWN" | "MOVED"))
        };
        self.connection = (!replies.iter().any(elsewhere)).then_some(connection);
        Ok(replies)
    }

    /// Sends one command; a refusal is an error.
    pub(super) fn one(&mut self, command: &Cmd) -> Result<Value, SourceError> {
        let reply = self.all(std::slice::from_ref(command))?.pop();
        reply::accepted(reply.unwrap_or(Value::Nil))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_shown_without_secrets() {
        for (url, shown) in [
            ("redis://host:6380/2", "redis://host:6380/2"),
            ("redis://:secret@host", "redis://host:6379/0"),
            ("rediss://user:secret@host:1/0", "rediss://host:1/0"),
            ("redis+unix:///run/redis.sock?db=3&pass=secret", "redis+unix:///run/redis.sock?db=3"),
            ("redis-sentinel://a:1,b/mymaster/4", "redis-sentinel://a:1,b:26379/mymaster/4"),
            ("redis-sentinel://u:secret@a/m?sentinel_password=secret", "redis-sentinel://a:26379/m/0"),
        ] {
            assert_eq!(Server::parse(url).unwrap().describe(), shown);
        }
        for bad in
            ["host:6379", "http://host", "redis://", "redis-sentinel://a:1", "redis-sentinel:///m", "redis://h/secret"]
        {
            let error = Server::parse(bad).err().unwrap();
            assert!(error.is_fatal() && !error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_sentinel_urls_parts_go_where_they_belong() {
        let url = "rediss-sentinel://us%40er:p%3Ass@a:1,[::1]:2/m/4?sentinel_user=s&sentinel_password=q%2F";
        let Place::Sentinels { nodes, master, tls, settings } = Server::parse(url).unwrap().place else { panic!() };
        assert_eq!((master.as_str(), tls, settings.db()), ("m", true, 4));
        assert_eq!((settings.username(), settings.password()), (Some("us@er"), Some("p:ss")));
        let shown: Vec<_> = nodes.iter().map(|node| node.addr().to_string()).collect();
        assert_eq!(shown, ["a:1", "::1:2"]);
        let sentinel = nodes[0].redis_settings();
        assert_eq!((sentinel.username(), sentinel.password()), (Some("s"), Some("q/")));
    }
}
