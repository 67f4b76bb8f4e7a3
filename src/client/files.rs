//! `get` and `archive`: bytes of a task, to standard output or into a file. A file that breaks off is gone on with from where it
//! broke, as long as it is the same version.

use std::{
    fmt::Display,
    io::{self, Read, Write},
    path::Path,
    thread,
    time::Instant,
};

use ureq::{Body, http::Response};

use super::{
    AGAIN, Asking, Client, ClientError, Origin, PATIENCE, Screen, folder, in_url,
    logs::{SILENCE, in_query, is_passing, on_its_way},
    progress::Progress,
    screen::Inert,
};
use crate::{cli, reader, save::Saving};

/// Bytes that are passed on at once.
const PIECE: usize = 128 << 10;

/// Where bytes go.
enum Sink<'a> {
    Output(&'a mut dyn Write, u64),
    Terminal(Inert<'a>, u64),
    /// Begun when the version is known.
    File(&'a Path, Option<Saving>),
}

/// Prints or saves a file of a task.
pub(super) fn get(
    origin: &Origin,
    (task, file): (&str, &str),
    output: Option<&Path>,
    screen: Screen,
    out: &mut dyn Write,
) -> Result<(), ClientError> {
    let mut sink = match output {
        Some(path) => Sink::File(path, None),
        None if screen.terminal => Sink::Terminal(Inert::new(out), 0),
        None => Sink::Output(out, 0),
    };
    match origin {
        Origin::Service(target) => {
            let client = Client::new(target);
            let path = format!("/tasks/{}/files/{}", in_url(task), in_url(file));
            from_service(&client, &path, &mut sink, screen).map_err(|error| sink.explained(error))?;
        }
        Origin::Folder(dir) => {
            let (_, folder) = folder::task(&folder::open(dir)?, task)?;
            let file = folder.open(file)?.ok_or(ClientError::NoSuchFile)?;
            let (version, len) = (file.etag(), file.len());
            sink.begin(Some(&version))?;
            let at = if sink.at() > len { sink.restart().map(|()| 0)? } else { sink.at() };
            let mut progress = Progress::new(screen, Some(len));
            copy(&mut file.section(at, len), &mut sink, &mut progress).map_err(|error| sink.explained(error))?;
        }
    }
    sink.finish()
}

fn from_service(client: &Client<'_>, path: &str, sink: &mut Sink<'_>, screen: Screen) -> Result<(), ClientError> {
    let first = on_its_way(|| client.ok(client.get(path, None)?))?;
    let version = header(&first, "etag");
    let mut total: Option<u64> = header(&first, "content-length").and_then(|len| len.parse().ok());
    sink.begin(version.as_deref())?;
    if total.is_some_and(|total| sink.at() > total) {
        sink.restart()?;
    }
    let mut progress = Progress::new(screen, total);
    // What an earlier run has saved of this version is not asked for again.
    let mut answer = (sink.at() == 0).then_some(first);
    let mut moved = Instant::now();
    loop {
        if total.is_some_and(|total| sink.at() == total) {
            return Ok(());
        }
        let at = sink.at();
        let came = match answer.take() {
            Some(answer) => pass(answer, sink, &mut progress),
            None => again(client, path, version.as_deref(), sink, &mut total, &mut progress),
        };
        match came {
            Ok(()) if total.is_none_or(|total| sink.at() == total) => return Ok(()),
            Ok(()) => {}
            Err(error) if is_passing(&error) => {
                if sink.at() == at && moved.elapsed() > PATIENCE {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
        if sink.at() > at {
            moved = Instant::now();
        }
        thread::sleep(AGAIN);
    }
}

/// Asks for what is missing of a version.
fn again(
    client: &Client<'_>,
    path: &str,
    version: Option<&str>,
    sink: &mut Sink<'_>,
    total: &mut Option<u64>,
    progress: &mut Progress,
) -> Result<(), ClientError> {
    let range = format!("bytes={}-", sink.at());
    let asking = Asking { range: Some(&range), version, silence: Some(SILENCE), ..Asking::default() };
    let answer = client.ok(client.ask(path, &asking)?)?;
    let begins =
        header(&answer, "content-range").is_some_and(|range| range.starts_with(&format!("bytes {}-", sink.at())));
    match answer.status().as_u16() {
        206 if begins => {}
        // Another version: from its beginning, if nobody has the old one yet.
        200 => {
            *total = header(&answer, "content-length").and_then(|len| len.parse().ok());
            sink.restart()?;
        }
        _ => return Err(client.foreign()),
    }
    pass(answer, sink, progress)
}

fn pass(answer: Response<Body>, sink: &mut Sink<'_>, progress: &mut Progress) -> Result<(), ClientError> {
    copy(&mut answer.into_body().into_reader(), sink, progress)
}

fn copy(from: &mut dyn Read, sink: &mut Sink<'_>, progress: &mut Progress) -> Result<(), ClientError> {
    let mut piece = vec![0; PIECE];
    loop {
        let got = match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(ClientError::Broken(error)),
        };
        sink.write_all(piece.get(..got).unwrap_or_default())?;
        progress.at(sink.at());
    }
}

/// Packs a task.
pub(super) fn archive(
    origin: &Origin,
    asked: &cli::Archive,
    screen: Screen,
    out: &mut dyn Write,
) -> Result<(), ClientError> {
    let mut sink = match &asked.output {
        Some(path) => Sink::File(path, None),
        None if screen.terminal => return Err(ClientError::Terminal),
        None => Sink::Output(out, 0),
    };
    match origin {
        Origin::Service(target) => {
            let client = Client::new(target);
            let mut query = asked.choice.query();
            query.push(("format", asked.format.name().to_owned()));
            let path = format!("/tasks/{}/archive?{}", in_url(&asked.task), in_query(&query));
            let answer = on_its_way(|| client.ok(client.get(&path, None)?))?;
            sink.begin(None)?;
            pass(answer, &mut sink, &mut Progress::new(screen, None))?;
        }
        Origin::Folder(dir) => {
            let (id, folder) = folder::task(&folder::open(dir)?, &asked.task)?;
            let filter = asked.choice.filter(jiff::Timestamp::now())?;
            let mut archive = reader::Archive::open(folder, &id.dir_name(), asked.format, &asked.choice.files, filter)?;
            sink.begin(None)?;
            let mut progress = Progress::new(screen, None);
            while let Some(piece) = archive.piece()? {
                sink.write_all(&piece)?;
                progress.at(sink.at());
            }
        }
    }
    sink.finish()
}

fn header(answer: &Response<Body>, name: &str) -> Option<String> {
    answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

// === impl Sink ===

impl Sink<'_> {
    fn begin(&mut self, version: Option<&str>) -> Result<(), ClientError> {
        if let Self::File(path, saving) = self {
            *saving = Some(Saving::begin(path, version).map_err(|source| cannot_save(path.display(), source))?);
        }
        Ok(())
    }

    /// Bytes that it has.
    fn at(&self) -> u64 {
        match self {
            Self::Output(_, at) | Self::Terminal(_, at) => *at,
            Self::File(_, saving) => saving.as_ref().map_or(0, Saving::at),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        let len = bytes.len() as u64;
        match self {
            Self::Output(out, at) => {
                out.write_all(bytes)?;
                *at += len;
            }
            Self::Terminal(inert, at) => {
                inert.write_all(bytes)?;
                *at += len;
            }
            Self::File(path, saving) => {
                let saving = saving.as_mut().ok_or(ClientError::Changed)?;
                saving.write_all(bytes).map_err(|source| cannot_save(path.display(), source))?;
            }
        }
        Ok(())
    }

    /// Forgets what it has, if nobody else has it.
    fn restart(&mut self) -> Result<(), ClientError> {
        match self {
            Self::File(path, Some(saving)) => saving.restart().map_err(|source| cannot_save(path.display(), source)),
            _ if self.at() == 0 => Ok(()),
            _ => Err(ClientError::Changed),
        }
    }

    fn finish(self) -> Result<(), ClientError> {
        match self {
            Self::Output(out, _) => out.flush().map_err(ClientError::Output),
            Self::Terminal(inert, _) => inert.finish().map_err(ClientError::Output),
            Self::File(path, Some(saving)) => saving.finish().map_err(|source| cannot_save(path.display(), source)),
            Self::File(_, None) => Ok(()),
        }
    }

    /// Says where what came so far is.
    fn explained(&self, error: ClientError) -> ClientError {
        if let Self::File(_, Some(saving)) = self
            && saving.at() > 0
        {
            let part = saving.part().display();
            // Nobody is left to tell when standard error is gone.
            drop(writeln!(io::stderr(), "what came is in {part}; the same command goes on from there"));
        }
        error
    }
}

fn cannot_save(path: impl Display, source: io::Error) -> ClientError {
    ClientError::Save { path: path.to_string(), source }
}
