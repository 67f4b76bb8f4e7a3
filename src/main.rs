//! The command line's entry point.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else: this process only compiles, under limits of its own.
    if std::env::args().nth(1).as_deref() == Some(task_logger::plugin::COMPILE_SUBCOMMAND) {
        return task_logger::plugin::compile_child();
    }
    ExitCode::SUCCESS
}
