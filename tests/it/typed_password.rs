//! A key's password as a person types it: at a terminal of its own, which `script` (util-linux) makes. Typed only once it is
//! asked for, and never shown.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use crate::{guests::misbehave, rig::eventually};

const PATIENCE: Duration = Duration::from_secs(60);
const PASSWORD: &str = "correct horse";

/// A program at a terminal; ended when dropped.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    shown: Receiver<Vec<u8>>,
    /// All that was shown so far.
    text: String,
}

impl Terminal {
    fn start(dir: &Path, args: &str) -> Self {
        // Its first line is the terminal's name.
        let line = format!("tty; exec {} {args}", env!("CARGO_BIN_EXE_task-logger"));
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .current_dir(dir)
            .env_remove("PLUGIN_KEY_PASSWORD")
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script, of util-linux");
        let (keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, shown) = mpsc::sync_channel(64);
        thread::spawn(move || {
            let mut piece = [0; 1024];
            while let Ok(n @ 1..) = screen.read(&mut piece) {
                if sender.send(piece[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, keys, shown, text: String::new() }
    }

    /// Reads until all has been shown that is waited for, or to the end.
    fn read_until(&mut self, enough: impl Fn(&str) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !enough(&self.text) {
            match self.shown.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(piece) => self.text.push_str(&String::from_utf8_lossy(&piece)),
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("nothing comes after {:?}", self.text),
            }
        }
    }

    /// Types this when it is asked for.
    fn answer(mut self, question: &str, typed: &str) -> Self {
        self.read_until(|text| text.contains(question));
        // It asks first, then hides.
        let name = self.text.lines().next().unwrap().trim().to_owned();
        eventually("what is typed is hidden", || {
            let modes = Command::new("stty").args(["-a", "-F", &name]).output().unwrap().stdout;
            String::from_utf8_lossy(&modes).split_whitespace().any(|mode| mode == "-echo")
        });
        self.keys.write_all(typed.as_bytes()).unwrap();
        self.keys.write_all(b"\n").unwrap();
        self
    }

    /// Its status, and all that was shown.
    fn end(mut self) -> (Option<i32>, String) {
        self.read_until(|_| false);
        (self.child.wait().unwrap().code(), std::mem::take(&mut self.text))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Only a failed test leaves it running.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn a_password_is_asked_for_twice_then_once_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("p.wasm"), misbehave()).unwrap();

    // Two that differ make no key, and neither does an empty one.
    let typing = Terminal::start(dir, "plugin keygen").answer("Password of the key: ", PASSWORD);
    let (code, shown) = typing.answer("The same again: ", "correct hose").end();
    assert!(code == Some(1) && shown.contains("the two passwords differ"), "{code:?} {shown}");
    let typing = Terminal::start(dir, "plugin keygen").answer("Password of the key: ", "");
    let (code, shown) = typing.answer("The same again: ", "").end();
    assert!(code == Some(1) && shown.contains("the password is empty"), "{code:?} {shown}");
    assert!(!dir.join("plugin.key").try_exists().unwrap() && !dir.join("plugin.pub").try_exists().unwrap());

    let typing = Terminal::start(dir, "plugin keygen").answer("Password of the key: ", PASSWORD);
    let (code, shown) = typing.answer("The same again: ", PASSWORD).end();
    assert!(code == Some(0) && shown.contains("public: plugin.pub"), "{code:?} {shown}");
    assert!(!shown.contains("horse"), "{shown}");
    let secret = fs::read_to_string(dir.join("plugin.key")).unwrap();
    assert!(secret.starts_with("untrusted comment: minisign encrypted secret key "), "{secret}");

    // Asked for once to sign; another one opens nothing.
    let (code, shown) = Terminal::start(dir, "plugin sign p.wasm").answer("Password of the key: ", "wrong").end();
    assert!(code == Some(1) && shown.contains("does not open with this password"), "{code:?} {shown}");
    assert!(!dir.join("p.wasm.minisig").try_exists().unwrap());
    let (code, shown) = Terminal::start(dir, "plugin sign p.wasm").answer("Password of the key: ", PASSWORD).end();
    assert!(code == Some(0) && shown.contains("signed p.wasm by key "), "{code:?} {shown}");
    assert!(!shown.contains("horse") && !shown.contains("The same again"), "{shown}");
    assert!(dir.join("p.wasm.minisig").try_exists().unwrap());
}
