//! The command line's entry point: arguments, settings, log, then one of the commands. Status 0: done; 64: bad arguments or
//! input; 1: it failed; the commands that ask the service have finer ones (`client`).

use std::{env, error::Error, io, io::Write as _, process::ExitCode};

use task_logger::{
    author,
    cli::{self, Action, PluginCommand},
    client::{self, ClientError, Origin, Screen, Target},
    config::{self, Config, Input},
    demo, dlq, doctor, plugin, publish,
    service::Service,
    shutdown::{self, Signals},
    telemetry, verify,
};
use tracing::{Level, info, warn};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What `sysexits` calls a usage error.
const BAD_INPUT: u8 = 64;

fn main() -> ExitCode {
    let invocation = match cli::parse(env::args_os()) {
        Ok(invocation) => invocation,
        Err(answer) => {
            let code = if answer.use_stderr() { ExitCode::from(BAD_INPUT) } else { ExitCode::SUCCESS };
            return if answer.print().is_ok() { code } else { ExitCode::FAILURE };
        }
    };
    if invocation.action == Action::CompileComponent {
        return plugin::compile_child();
    }
    match &invocation.action {
        Action::Completions(shell) => return printed(&cli::completions(*shell)),
        Action::Man { command } => {
            let page = cli::man(command).unwrap_or_else(|| Err(io::Error::other("there is no such command")));
            return page.map_or_else(|error| failed(&error, ExitCode::from(BAD_INPUT)), |page| printed(&page));
        }
        _ => {}
    }
    if let Action::Doctor { json } = invocation.action {
        return doctor::run(Input::process(invocation.flags), json, &mut io::stdout())
            .unwrap_or_else(|error| failed(&error, ExitCode::FAILURE));
    }
    let config = match config::resolve(&Input::process(invocation.flags)) {
        Ok(config) => config,
        Err(invalid) => return failed(&invalid, ExitCode::from(BAD_INPUT)),
    };
    let serves = matches!(invocation.action, Action::Serve | Action::Demo { .. });
    telemetry::init(if serves { config.log_level } else { config.log_level.min(Level::WARN) }, config.log_json);

    let target = Target { base: config.service_url(), token: config.api_token.clone() };
    let out = &mut io::stdout();
    let asked = |done: Result<_, ClientError>| Ok(done.unwrap_or_else(|error| failed(&error, error.exit_code())));
    let done: Result<ExitCode, Box<dyn Error>> = match invocation.action {
        Action::Serve
        | Action::CompileComponent
        | Action::Doctor { .. }
        | Action::Completions(_)
        | Action::Man { .. } => serve(config),
        Action::Demo { exit } => demo::run(config, exit).map_err(Into::into),
        Action::Publish(what) => publish::run(&config, &what).map_err(Into::into),
        Action::Read(reading) => {
            let origin = reading.dir.map_or(Origin::Service(target), Origin::Folder);
            asked(client::read(&origin, &reading.what, Screen::of_process(), out))
        }
        Action::Health => asked(client::health(&target, out)),
        Action::Plugin(PluginCommand::Ls { json }) => asked(client::plugins(&target, json, out)),
        Action::Plugin(PluginCommand::Forget { name }) => asked(client::forget(&target, &name, out)),
        Action::Plugin(command) => author::run(&config, &command, out).map_err(Into::into),
        Action::Verify(what) => {
            Ok(verify::run(&config, &what, out).unwrap_or_else(|error| failed(&error, error.exit_code())))
        }
        Action::Dlq(command) => dlq::run(&config, &command, out).map_err(Into::into),
        Action::Replay(replay) => author::replay(config, &replay, out).map_err(Into::into),
    };
    done.unwrap_or_else(|error| failed(&*error, ExitCode::FAILURE))
}

fn serve(config: Config) -> Result<ExitCode, Box<dyn Error>> {
    let signals = Signals::install()?;
    config.warnings().iter().for_each(|warning| warn!("{warning}"));
    let grace = config.shutdown_grace;
    let service = Service::build(config)?;
    info!(address = %service.address(), "listening");
    Ok(shutdown::supervise(service.spawn(), &signals, grace))
}

/// Prints what was made. A closed pipe behind it is no error.
fn printed(text: &[u8]) -> ExitCode {
    match io::stdout().write_all(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => failed(&error, ExitCode::FAILURE),
        _ => ExitCode::SUCCESS,
    }
}

/// Prints an error and its causes, once.
fn failed(error: &dyn Error, code: ExitCode) -> ExitCode {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    let text = causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
    // Nobody is left to tell when standard error is gone, too.
    drop(writeln!(io::stderr(), "{text}"));
    code
}
