//! What HTTP is asked by hostile names it opens nothing for: seen in `strace`'s record of every file that the service opened.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use crate::{
    power_loss::strace_works,
    rig::{Node, Rig, eventually},
};

/// Names that lead elsewhere, if something takes them for a path.
const NAMES: [&str; 22] = [
    "..",
    "%2e%2e",
    "..%2f..%2foutside%2fsecret.json",
    "%2e%2e%2f%2e%2e%2foutside%2fsecret.json",
    "..%5c..%5coutside%5csecret.json",
    "../../outside/secret.json",
    "....//....//outside//secret.json",
    "%252e%252e%252f%252e%252e%252foutside%252fsecret.json",
    "%2fetc%2fhostname",
    "/etc/hostname",
    "%00",
    "metadata.json%00",
    "metadata.json%00.jsonl",
    "link.json",
    "link.jsonl",
    "folder",
    "folder%2fsecret.json",
    "METADATA.JSON",
    ".state",
    ".task-logger",
    "%c0%ae%c0%ae%c0%afoutside",
    "%EF%BC%8E%EF%BC%8E%EF%BC%8Foutside",
];

/// One request, byte for byte as given; its status.
fn status(node: &Node, path: &str) -> u16 {
    let mut connection = TcpStream::connect(node.url().trim_start_matches("http://")).unwrap();
    write!(connection, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // A refusal may come before all was read.
    drop(connection.read_to_end(&mut answer));
    let head = String::from_utf8_lossy(&answer).into_owned();
    assert!(!head.contains("SECRET"), "{path}: {head}");
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{path}: {head}"))
}

/// Every file that was opened, as the kernel names it.
fn opened(record: &str) -> Vec<PathBuf> {
    let results = record.lines().filter_map(|line| line.rsplit_once(" = ")).map(|(_, result)| result);
    let paths = results.filter_map(|result| result.split_once('<')?.1.strip_suffix('>'));
    paths.map(PathBuf::from).collect()
}

#[test]
fn hostile_names_open_nothing_outside_the_logs_folder() {
    if !strace_works() {
        return;
    }
    let rig = Rig::embedded();
    let (logs, outside) = (rig.logs(), rig.root().join("outside"));
    for folder in [&outside, &logs.join("t1/folder"), &logs.join("_webhooks/w1")] {
        fs::create_dir_all(folder).unwrap();
    }
    fs::write(outside.join("secret.json"), "SECRET").unwrap();
    fs::write(logs.join("t1/metadata.json"), "{}").unwrap();
    fs::write(logs.join("t1/03-agent-output.jsonl"), "{}\n").unwrap();
    fs::write(logs.join("t1/folder/secret.json"), "SECRET").unwrap();
    for name in ["link.json", "link.jsonl"] {
        symlink(outside.join("secret.json"), logs.join("t1").join(name)).unwrap();
        symlink("/etc/hostname", logs.join("_webhooks/w1").join(name)).unwrap();
    }
    symlink(&outside, logs.join("t2")).unwrap();
    symlink("/etc", logs.join("_webhooks/w2")).unwrap();

    let record = rig.root().join("record");
    let trace = ["strace", "-D", "-f", "-y", "-e", "trace=open,openat,openat2", "-o", record.to_str().unwrap(), "--"];
    let node = rig.spawn_under(&trace.map(str::to_owned));
    assert_eq!(status(&node, "/tasks/t1/files/metadata.json"), 200);
    for name in NAMES {
        for path in [
            format!("/tasks/t1/files/{name}"),
            format!("/tasks/t1/files/{name}?download&etag={name}"),
            format!("/webhooks/w1/files/{name}"),
            format!("/tasks/{name}"),
            format!("/tasks/{name}/logs"),
            format!("/tasks/{name}/logs?limit=1"),
            format!("/tasks/{name}/stream"),
            format!("/tasks/{name}/counts"),
            format!("/tasks/{name}/files"),
            format!("/tasks/{name}/files/secret.json"),
            format!("/tasks/{name}/archive"),
            format!("/webhooks/{name}/files"),
            format!("/webhooks/{name}/files/secret.json"),
            format!("/{name}"),
            format!("/page/{name}"),
        ] {
            assert!([400, 404].contains(&status(&node, &path)), "{path}");
        }
        for query in ["file", "after", "q", "type", "format"] {
            status(&node, &format!("/tasks/t1/logs?limit=1&{query}={name}"));
            status(&node, &format!("/tasks/t1/archive?{query}={name}"));
            status(&node, &format!("/tasks?{query}={name}"));
        }
    }
    for path in ["/tasks/t2/files", "/tasks/t2/files/secret.json", "/tasks/t2/archive", "/webhooks/w2/files/hostname"] {
        assert_eq!(status(&node, path), 404, "{path}");
    }
    assert_eq!(status(&node, "/tasks/t1/archive?format=zip"), 200, "what is a link is not packed");
    node.kill();
    let mut text = String::new();
    eventually("the record is complete", || {
        text = fs::read_to_string(&record).unwrap();
        text.contains("+++ killed by SIGKILL")
    });
    let opened = opened(&text);
    let is_open = |path: &Path| opened.iter().any(|found| found == path);
    assert!(is_open(&logs.join("t1/metadata.json")), "the record shows nothing");
    let root = rig.root().canonicalize().unwrap();
    let own = ["logs", "stream", "plugins", "state"].map(|folder| root.join(folder));
    for path in &opened {
        let traps = ["/etc/hostname", "/etc/passwd"].map(Path::new);
        let below = path.starts_with(&root) && !own.iter().any(|own| path.starts_with(own)) && path != &root;
        assert!(!below && !traps.contains(&path.as_path()) && !path.starts_with(logs.join("t1/folder")), "{path:?}");
    }
}
