//! Commands against a running service.

use std::{
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Instant,
};

use super::*;
use crate::http::tests::{Service, With};

mod cuts;
mod hostile;
mod reading;

fn target(service: &Service) -> Target {
    Target { base: service.base.clone(), token: None }
}

fn run(command: impl FnOnce(&mut dyn Write) -> Result<ExitCode, ClientError>) -> (ExitCode, String) {
    let mut out = Vec::new();
    let code = command(&mut out).unwrap();
    (code, String::from_utf8(out).unwrap())
}

/// An output that a test looks at while it is written.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    #[track_caller]
    fn wait_for(&self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.text().contains(text) {
            assert!(Instant::now() < deadline, "no {text:?} in {:?}", self.text());
            std::thread::yield_now();
        }
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Runs a command that reads from there.
fn read_from(origin: &Origin, line: &str, screen: Screen, out: &mut dyn Write) -> Result<ExitCode, ClientError> {
    let args = ["task-logger"]
        .into_iter()
        .chain(line.split(' ').filter(|word| !word.is_empty()))
        .map(std::ffi::OsString::from);
    match crate::cli::parse(args).unwrap().action {
        crate::cli::Action::Read(reading) => read(origin, &reading.what, screen, out),
        other => panic!("{other:?}"),
    }
}

/// The service and its folder.
fn origins(service: &Service) -> [Origin; 2] {
    [Origin::Service(target(service)), Origin::Folder(service.logs.path().join("tasks"))]
}

/// Runs a command against the service and against its folder; both must say the same.
#[track_caller]
fn both(service: &Service, line: &str) -> (ExitCode, String) {
    let [one, two] = origins(service).map(|origin| run(|out| read_from(&origin, line, Screen::default(), out)));
    assert_eq!(one, two, "{line}");
    one
}

/// What a command that cannot do what it was asked says, by both.
#[track_caller]
fn refused(service: &Service, line: &str) -> ExitCode {
    let [one, two] = origins(service)
        .map(|origin| read_from(&origin, line, Screen::default(), &mut Vec::new()).unwrap_err().exit_code());
    assert_eq!(one, two, "{line}");
    one
}

#[test]
fn health_tells_by_its_exit_code() {
    let service = Service::start();
    service.status.set_notice("redactor", Some("none in the chain".to_owned()));
    let (code, text) = run(|out| health(&target(&service), out));
    assert_eq!(
        (code, text.as_str()),
        (ExitCode::SUCCESS, "healthy (starting, )\nnotices: redactor: none in the chain\n")
    );
    // A port that was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away = Target { base: format!("http://{free}"), token: None };
    let (code, text) = run(|out| health(&away, out));
    assert_eq!(code, ExitCode::FAILURE);
    assert!(text.starts_with("unhealthy: cannot reach the service"), "{text}");
    let error = read_from(&Origin::Service(away), "ls", Screen::default(), &mut Vec::new()).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::from(69));
}

#[test]
fn the_token_is_sent() {
    let service = Service::start_with(With { token: Some("s3cret"), ..With::default() });
    let with = |token: &str| Target { base: service.base.clone(), token: Some(Secret::new(token)) };
    let ls = |token| read_from(&Origin::Service(with(token)), "ls", Screen::default(), &mut Vec::new());
    assert!(ls("s3cret").is_ok());
    let error = ls("wrong").unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::from(77));
    assert!(health(&target(&service), &mut Vec::new()).is_ok());
}

#[test]
fn plugins_are_listed_and_forgotten() {
    let service = Service::start();
    service.require("redact");
    let (_, text) = run(|out| plugins(&target(&service), false, out));
    let rest = "required: redact\norder: none\nfolders: none\n";
    assert_eq!(text, format!("STATE  NAME    SHA256\nlive   redact  0123456789ab\n{rest}"));
    let (_, text) = run(|out| plugins(&target(&service), true, out));
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["required"], serde_json::json!(["redact"]));
    let (code, text) = run(|out| forget(&target(&service), "redact", out));
    assert_eq!((code, text.as_str()), (ExitCode::SUCCESS, "redact is no longer required\n"));
    let (code, _) = run(|out| forget(&target(&service), "redact", out));
    assert_eq!(code, ExitCode::FAILURE);
    let (_, text) = run(|out| plugins(&target(&service), false, out));
    assert_eq!(text, "no plugins\nrequired: none\norder: none\nfolders: none\n");
}

#[test]
fn a_closed_pipe_ends_well() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let service = Service::start();
    service.write("t/metadata.json", "{}");
    for origin in origins(&service) {
        assert_eq!(read_from(&origin, "ls", Screen::default(), &mut Closed).unwrap(), ExitCode::SUCCESS);
    }
}
